// Package holders finds and ends everything that keeps a root in use: processes with their
// root, directory, program, open or mapped files, sockets or mounts there; and loop devices
// and swap files, which need no process.
//
// Take reads the footprint of a mounted root, which distinguishes its files from those of the
// host. An Ender ends the holders, except this process and its parents. The package does not
// unmount. Package registration removes binfmt_misc entries and uprobes.
package holders
