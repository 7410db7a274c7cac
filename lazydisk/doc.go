// Package lazydisk provides a block device whose blocks are fetched when they are first read, and
// whose changed blocks can be listed.
//
//	source ◄── rpc ───► block server ◄── FUSE ── loop device ◄── partitions, file systems
//	  │                     │
//	client               cache, overlay
//
// A separate process, the block server, serves a file by FUSE; a loop device is attached to the
// file. The server is this program, started again with a hidden argument, so its main function
// must call Main first. Server is the server as seen by the process that starts it with root
// privileges. Client is the end of the process that has the source and uploads the changes. Both
// may be the same process: see Open.
//
// Use it in this order: Open or Start, use the device, unmount everything on it, Detach, Changes,
// Close. If a read fails for good, it fails with an I/O error, and Failed and Failure report the
// block and the reason. If the server is killed, all reads and writes fail at once.
//
// Written blocks end with the block server. Use the package only for a disk whose changes are
// uploaded or thrown away, and of which most blocks are not read.
//
// The client's process must not start a program from the disk: Go stops all goroutines to start a
// program, and could not send the blocks that the program is read from.
package lazydisk
