// Package command runs processes, in a root or on the host, with standard streams, a cgroup
// and cancellation by a context.
//
// A Process ends when its program ends, even if a daemon that it has started keeps its output
// open. A cancelled context kills the process and everything that it has started. Host runs
// the user's shell commands in the command_wrapper. For a program that needs neither a cgroup
// nor the command_wrapper, use os/exec.
package command
