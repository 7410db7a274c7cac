// Package blockdev identifies block devices: by number, by the kernel's count of disks, and
// by the devices that they are made of.
//
// The kernel reuses device numbers and nodes, so an Identity is recorded before an act and
// compared before the next one. The package only reads sysfs and device nodes. To find the
// disk of a volume, or its partitions, use package disk; to check whether a device is in use,
// use package disk/exclusive.
package blockdev
