package bake

import (
	"regexp"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// Disk is the root volume's disk on the host.
type Disk struct {
	// Node is the kernel's, such as /dev/nvme1n1.
	Node DevicePath
	// Name is what the user's templates call it: the device name that was asked for, if
	// that is a link to Node, such as /dev/sdf; otherwise Node.
	Name DevicePath
}

// String returns the node, and the other name if there is one.
func (d Disk) String() string {
	if d.Name == d.Node {
		return string(d.Node)
	}
	return string(d.Node) + " (" + string(d.Name) + ")"
}

// Partitions returns the text of a user's command with each partition of the disk under
// the name that its node has. A command that was written for /dev/xvdf names partition 1
// of {{.Device}} as {{.Device}}1, which on an NVMe disk is /dev/nvme1n1p1.
func (d Disk) Partitions(command string) string {
	if d.Node == "" || !endsInDigit(d.Node) {
		return command
	}
	partition := regexp.MustCompile(regexp.QuoteMeta(string(d.Name)) + `p?([0-9]+)\b`)
	return partition.ReplaceAllStringFunc(command, func(name string) string {
		n, err := strconv.Atoi(partition.FindStringSubmatch(name)[1])
		if err != nil {
			return name
		}
		return disk.PartitionPath(string(d.Node), n)
	})
}

// endsInDigit reports whether the kernel separates the numbers of a disk's partitions
// from its name by a p.
func endsInDigit(node DevicePath) bool {
	last := node[len(node)-1]
	return last >= '0' && last <= '9'
}
