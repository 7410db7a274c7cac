// Package rootfs opens, creates and removes files inside the root file system of an image.
//
// The kernel resolves every path as for a process in the chroot, with openat2(2) and
// RESOLVE_IN_ROOT: no link of the image leads out of it. A device, a named pipe or a socket
// is never opened, because a device node of an image leads to a device of the host.
//
// Do not use it for paths of the host, for which there is package safedir, nor to copy
// trees, for which there is package transfer. It does not mount, and a Root that is open
// keeps its file system in use.
package rootfs
