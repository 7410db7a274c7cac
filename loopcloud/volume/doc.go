// Package volume keeps the bytes of loopcloud's volumes and snapshots, and makes
// an attached volume a block device under the name that the real cloud would give
// it. It fulfils state.Disks.
//
// A volume or snapshot is one sparse raw file. A snapshot is a clone of the
// volume's file where the file system can do that (XFS, Btrfs), and else a copy
// of what was written. An attached volume is a loop device; beside the kernel's
// own node it gets one under the cloud's name, one for each of its partitions,
// and the links that udev would make:
//
//	attach:  loop device → partitions → node → links, partitions' nodes
//	detach:  partitions → links, partitions' nodes → node → loop device
//
// The node is made first and removed last, and the loop device outlives it. So
// whatever a killed process leaves is found from what the kernel says of its loop
// devices: nothing has to be remembered.
//
// It is Linux only, and attaching needs root.
package volume
