// Package chroot mounts the root file system of an image, enters it and leaves it again.
//
// A Keeper does this with root privileges. A Client runs a Keeper in a process of its own and
// calls it. Mounts are made by system calls; the host's shell only runs the user's shell
// commands. Leaving ends every process that uses the root and unmounts the root with
// everything below it. It never detaches a mount that is in use.
//
// The paths of an image are not trusted: they are resolved as for a process in the chroot,
// whatever symbolic links the image contains. The programs of an image are trusted: a command
// in a chroot can do everything on the host that root can. To isolate programs, use a
// container.
//
// The packages below it have one subject each: rootfs and transfer for files, command for
// processes, holders for the processes that keep a root in use, wire and rendezvous for the
// connection between a plugin and its keeper.
package chroot
