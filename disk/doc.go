// Package disk leads from an attached volume to the partition that a build
// mounts: which device node is the volume's, which partitions its table has,
// when their nodes are there, and which of them is the root.
//
// It asks the kernel and the disk itself: sysfs, the table's bytes, the BLKPG
// ioctl. udev is used where it is, and missed nowhere: a kernel without parsers
// for partition tables, and a host without udev, serve too.
//
// Reading a table works everywhere; what needs a kernel with block devices fails
// with errors.ErrUnsupported where that is not Linux.
package disk
