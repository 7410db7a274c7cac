// Package block has the sizes of a lazy disk's blocks and the interface of their source.
//
// The package does no I/O. The sizes are those of EBS snapshots, and not those of sectors or of
// file systems.
package block
