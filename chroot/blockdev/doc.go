// Package blockdev identifies block devices: by number, by the kernel's count of disks, and
// by the devices that they are made of.
//
// A device number and a node are given to another disk as soon as the first is gone, so an
// Identity is recorded before an act and compared before the next. The package reads sysfs
// and nodes only. To find the disk of a volume, or its partitions, use package disk; to ask
// whether a device is in use, use package disk/exclusive.
package blockdev
