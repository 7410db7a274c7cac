// Package procfs reads processes from /proc: their ids, start times, parents and states, as
// proc(5) describes them.
//
// A process is identified by its id and its start time, because ids are reused. Do not send a
// signal to an id that was read here: open a pidfd, and compare the start time afterwards.
// The ids are those of this process's PID namespace.
package procfs
