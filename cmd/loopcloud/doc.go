// Command loopcloud runs a cloud on one machine: see package loopcloud.
package main
