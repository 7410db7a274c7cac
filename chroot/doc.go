// Package chroot mounts the root file system of an image, enters it and leaves it again.
//
// A Keeper does that with root's rights, and a Client has a Keeper in a process of its own.
// Mounts are made by system calls; the host's shell only runs the user's shell commands.
// Leaving ends every process that uses the root, unmounts it with everything below, and
// never detaches a mount that is in use.
//
// An image is not trusted with paths: files are read and written, and file systems mounted,
// where a process in the chroot would find them, whatever links the image holds. It is
// trusted with root's rights: a chroot is not a jail, and a command in it can do everything
// to the host that root can. Do not use it to isolate programs; that takes a container.
//
// The packages below it have one subject each: rootfs and transfer for files, command for
// processes, holders for the processes that keep a root in use, wire and rendezvous for the
// connection between a plugin and its keeper.
package chroot
