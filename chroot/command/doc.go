// Package command runs processes, in a root or on the host, with their standard streams, a
// cgroup, and an end that a context decides.
//
// A Process ends when its program ends: a daemon that it leaves behind and that has its
// output open is not waited for. A cancelled context kills the process and everything that
// it has started. Host runs the user's shell commands in the command_wrapper. For a program
// of the plugin's own that needs neither, os/exec is enough.
package command
