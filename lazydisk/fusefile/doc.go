// Package fusefile serves one file of a FUSE file system that is mounted nowhere.
//
// The mount is detached: it has no path, and it is reachable only through its descriptor and the
// files that were opened with it. It ends with the last of them, so nothing has to be unmounted.
// The serving process must not use the mount, nor start other programs: Go stops all goroutines
// to start a program, and could then not serve the read that the new program waits for.
//
// If the serving process is killed, or the connection is aborted, every request fails at once.
package fusefile
