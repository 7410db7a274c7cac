// Package inotify tells what happens to files and directories, so that a wait
// for a device node ends when the node is there and not at the next poll.
//
// It is inotify(7) and no more: Linux only, no recursion. An event can be lost
// (the queue is bounded, and a directory that does not exist cannot be
// watched), so a caller looks at the thing itself after every wake, and at
// times without one.
package inotify
