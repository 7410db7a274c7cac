// Package rootfs opens, creates and removes files inside the root file system of an image.
//
// The kernel resolves every path as for a process in the chroot, with openat2(2) and
// RESOLVE_IN_ROOT: no link of the image leads out of it. A device, a named pipe or a socket
// is never opened, because a device node of an image leads to a device of the host.
//
// For paths of the host, use package safedir; to copy directory trees, use package transfer.
// The package does not mount. An open Root keeps its file system in use.
package rootfs
