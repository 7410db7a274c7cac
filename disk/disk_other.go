//go:build !linux

package disk

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

func unsupported(what string) error {
	return fmt.Errorf("cannot %s on %s: %w", what, runtime.GOOS, errors.ErrUnsupported)
}

// ReadDevice reads the partition table of a block device; Linux only.
func ReadDevice(device string) (Table, error) {
	return Table{}, unsupported("read the partition table of " + device)
}

// SyncPartitions makes the kernel's partitions equal to the device's table;
// Linux only.
func SyncPartitions(device string) error {
	return unsupported("inform the kernel of the partitions of " + device)
}

// WaitNode waits for a device node; Linux only.
func WaitNode(context.Context, ...string) (string, error) {
	return "", unsupported("wait for a device node")
}

// Find returns the device of a volume; Linux only.
func Find(_ context.Context, q Query) (string, error) {
	return "", unsupported("find the device of " + q.Volume)
}

// Called returns the name to use for an attached disk; Linux only.
func Called(_ context.Context, _, node string) string { return node }

// CheckName returns an error if a device name is taken; Linux only.
func CheckName(name string) error { return unsupported("look for " + name) }

// Settle waits for the nodes of a device's partitions; Linux only.
func Settle(_ context.Context, device string) error {
	return unsupported("wait for the partitions of " + device)
}

// Root returns the root file system of a disk; Linux only.
func Root(_ context.Context, device string, _ Choice) (RootFS, error) {
	return RootFS{}, unsupported("find the root partition of " + device)
}

// FstabMounts returns the mounts below the root in an image's fstab; Linux only.
func FstabMounts(device, _ string) ([]FstabMount, error) {
	return nil, unsupported("find what the fstab mounts on " + device)
}

// GrowPartition extends a partition to the end of its device; Linux only.
func GrowPartition(_, node string) (bool, error) { return false, unsupported("grow " + node) }

// GrowUnmounted grows a file system that grows while it is not mounted; Linux only.
func GrowUnmounted(_ context.Context, node string) error { return unsupported("grow " + node) }

// GrowMounted grows a mounted file system to the size of its device; Linux only.
func GrowMounted(_, device string) error { return unsupported("grow " + device) }

// Disks returns the disks of this host; Linux only.
func Disks() Seen { return nil }

// Flush writes the cached data of a device to it; Linux only.
func Flush(device string) error {
	return unsupported("flush " + device)
}
