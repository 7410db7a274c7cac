// Package holders finds everything that keeps a root in use, and ends it: processes by their
// root, directory, program, open and mapped files, sockets and mounts; and loop devices and
// swap files, which the kernel keeps without a process.
//
// Take reads the footprint of a mounted root, which distinguishes its files from those of the
// host. An Ender ends the holders, except this process and its parents. The package does not
// unmount. Registrations in the kernel by path are handled by package registration.
package holders
