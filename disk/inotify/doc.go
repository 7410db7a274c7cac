// Package inotify reports changes to files and directories, so that a wait for a device
// node ends when the node exists and not at the next poll.
//
// It wraps inotify(7): it works on Linux only, and does not watch subdirectories. An event can
// be lost (the queue is bounded, and a directory that does not exist cannot be watched), so a
// caller checks the file itself after every event, and at intervals without one.
package inotify
