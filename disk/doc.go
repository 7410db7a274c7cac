// Package disk finds the partition of an attached volume that a build mounts: the device
// node of the volume, the partitions in its table, their nodes, and the root among them.
//
// It reads sysfs, the bytes of the table and the superblocks, and adds partitions with the
// BLKPG ioctl. It uses udev if it runs. It works without udev, and on kernels without parsers
// for partition tables.
//
// Tables can be read on every system. Functions that need a kernel with block devices
// fail with errors.ErrUnsupported on systems other than Linux. The package mounts nothing
// at a path; package chroot does.
package disk
