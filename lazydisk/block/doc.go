// Package block has the sizes of a lazy disk's blocks and the interface of their source.
//
// The package does no I/O.
package block
