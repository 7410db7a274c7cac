// Package qemutest runs machines for tests: a distribution's kernel, a root in memory
// with busybox and what a test puts there, and a console that is read line by line.
package qemutest
