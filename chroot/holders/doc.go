// Package holders finds everything that keeps a root in use, and ends it: processes by their
// root, directory, program, open and mapped files, sockets and mounts; and loop devices and
// swap files, which the kernel keeps without a process.
//
// Take reads the footprint of a mounted root, which tells its files from those of the host,
// and an Ender ends the holders, never this process and its parents. It does not unmount;
// registrations in the kernel by path are package registration's.
package holders
