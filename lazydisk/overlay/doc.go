// Package overlay stores the pages of a disk that were written, and which blocks the disk's source
// has. It stores them in two sparse files without names, so they end with the process, and its
// memory does not depend on the size of the disk. Nothing of it can be opened again.
//
// A page that was discarded is written with zeros that take no space. The package does not
// read the source, and does not lock: calls for the same block must not overlap, except reads.
package overlay
