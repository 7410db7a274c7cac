// Package mountpoint checks and locks the directory that a root is mounted on. Nothing may be
// mounted on it, no other build may be about to mount on it, and no other user may be able to
// replace a part of its path.
//
// The package does not mount. The lock only keeps two builds from mounting on the directory at
// the same moment, and has no effect once the root is mounted.
package mountpoint
