// Package cgroup ends everything that a command has started: each command gets a cgroup
// (v2) of its own, and one write kills all processes in it, however they forked.
//
// It also finds the freezer cgroups (v1) that keep a killed process from ending. It is not
// for limits of memory or CPU, and it never touches a cgroup that it did not create, except
// to move a killed process out of a frozen one. On a host without a writable v2 hierarchy
// New fails, and the caller must end the processes in another way.
package cgroup
