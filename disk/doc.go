// Package disk finds the partition of an attached volume that a build mounts: the device
// node of the volume, the partitions in its table, their nodes, and the root among them.
//
// It reads sysfs, the bytes of the table and the superblocks, and uses the BLKPG ioctl.
// udev is used if it runs, and not needed: a kernel without parsers for partition tables,
// and a host without udev, will do.
//
// Tables can be read on every system. Functions that need a kernel with block devices
// fail with errors.ErrUnsupported on other systems than Linux. The package mounts nothing
// at a path; that is package chroot.
package disk
