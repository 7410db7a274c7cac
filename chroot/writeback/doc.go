// Package writeback finds data that was written to a file system and lost before it reached
// the disk.
//
// Add each file system to Markers when it is mounted, and call their Sync before it is
// unmounted. To write a single file, use fsync(2), which returns the error to the program that
// has written it.
package writeback
