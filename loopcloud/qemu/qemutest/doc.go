// Package qemutest runs virtual machines for tests: a distribution's kernel, a root in memory
// with busybox and files of the test, and a console that is read line by line.
package qemutest
