// Package chroot is a root file system that one can enter: its mounts, commands
// run in it, files brought in and out, and leaving it clean.
//
// A Keeper mounts a root, and further file systems in it, by system calls; the
// host's shell is only for what users write as shell commands. Leaving ends who uses
// the root, unmounts it with everything below, and never detaches a mount that is in
// use.
//
// An image is not trusted with paths: whatever links it holds, files are read and
// written, and mounts made, where a process in the chroot would find them. It is
// trusted with root's rights, though: a chroot is no jail, and a command in it can
// do to the host what root can.
package chroot
