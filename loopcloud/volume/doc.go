// Package volume stores the data of loopcloud's volumes and snapshots, and attaches a volume to a
// block device with the name that the real cloud would use. It implements state.Disks.
//
// A volume or snapshot is one sparse raw file. A snapshot is a clone of the volume's file if the
// file system supports it (XFS, Btrfs), and otherwise a copy of the written blocks. An attached
// volume is a loop device. Beside the kernel's own node it has a node with the cloud's name, one
// for each partition, and the links that udev would create:
//
//	attach:  loop device → partitions → node → links, partitions' nodes
//	detach:  partitions → links, partitions' nodes → node → loop device
//
// The node is created first and removed last, and the loop device outlives it. The remains of a
// killed process can therefore be found through the kernel's list of loop devices: no record is
// needed.
//
// The package is for Linux only, and attaching needs root.
package volume
