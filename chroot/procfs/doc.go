// Package procfs reads processes from /proc: which there are, when they were started, their
// parents and their state, as proc(5) describes it.
//
// A process is identified by its id and its start time, because ids are used again. Do not
// send a signal by an id that was read here: open a pidfd, and compare the start time
// afterwards. Numbers are those of this process's PID namespace.
package procfs
