// Package mountpoint checks and locks the directory that a root is mounted on: it must be
// the build's alone, unmounted, and impossible for other users to replace.
//
// It does not mount. A lock keeps two builds from mounting there at the same moment; it
// protects from nothing once the root is mounted.
package mountpoint
