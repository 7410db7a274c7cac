// Package chroot is a root file system that one can enter: its mounts, commands
// run in it, files brought in and out, and leaving it clean.
package chroot
