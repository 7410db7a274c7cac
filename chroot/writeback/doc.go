// Package writeback finds data that was written to a file system and lost before it reached
// the disk.
//
// Sync is for a root that is about to be unmounted. To write a single file, use fsync(2),
// which returns the error to the program that has written it.
package writeback
