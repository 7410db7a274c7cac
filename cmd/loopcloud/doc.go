// Command loopcloud is a cloud on one machine: see package loopcloud.
package main
