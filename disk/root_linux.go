package disk

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// Root is the node to mount as the root file system. The partition is what
// mount_partition says: "0" is the whole disk, a number that partition, and the
// empty string the first partition, or the whole disk where there is no
// partition table. Settle comes before it.
func Root(device, partition string) (string, error) {
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return "", fmt.Errorf("cannot find the root partition: %w", err)
	}
	if partition == "0" {
		return device, nil
	}
	t, err := ReadDevice(device)
	if err != nil {
		return "", err
	}
	n, err := t.root(partition)
	if err != nil {
		return "", fmt.Errorf("cannot find the root partition of %s: %w", device, err)
	}
	if n == 0 {
		return device, nil
	}
	node := PartitionPath(device, n)
	if err := isDevice(node); err != nil {
		return "", fmt.Errorf("cannot use partition %d of %s: %s: %w", n, device, node, err)
	}
	return node, nil
}

// root is the number of the partition to mount, 0 for the whole disk.
func (t Table) root(partition string) (int, error) {
	if partition == "" {
		return t.first()
	}
	n, err := strconv.Atoi(partition)
	switch p, ok := t.Partition(n); {
	case err != nil || n < 1:
		return 0, fmt.Errorf("%q is no partition number", partition)
	case t.Kind == None:
		return 0, fmt.Errorf(`there is no partition table, so no partition %d; "0" is the whole disk`, n)
	case !ok:
		return 0, fmt.Errorf("there is no partition %d in its %s table, which has %s", n, t.Kind, t.numbers())
	case t.Kind == MBR && p.Extended():
		return 0, fmt.Errorf("partition %d is an extended one, which holds partitions and no file system", n)
	default:
		return n, nil
	}
}

// first is the lowest number that can hold a file system.
func (t Table) first() (int, error) {
	if t.Kind == None {
		return 0, nil
	}
	for _, p := range t.Partitions {
		if t.Kind != MBR || !p.Extended() {
			return p.Number, nil
		}
	}
	return 0, fmt.Errorf("its %s table has no partition", t.Kind)
}
