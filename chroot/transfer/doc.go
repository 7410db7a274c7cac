// Package transfer copies files and directories between the host and the root of an image.
//
// Directories are copied from open directory to open directory, by single names and without
// following links, so that a concurrent rename cannot lead a copy elsewhere. Links, hard
// links, modes, times and holes are kept. A device, a named pipe or a socket is an error.
//
// Use package rootfs to read or write one small file of an image. Do not use this package
// between two paths of the host: it resolves the image's side as a chroot would.
package transfer
