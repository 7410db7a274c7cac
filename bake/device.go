package bake

import (
	"context"
	"fmt"
	"regexp"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// prepare waits for the disk in the kernel and runs the user's commands on it.
func (b *build) prepare(ctx context.Context, root rootDisk) (Disk, error) {
	disk, err := root.find(ctx)
	if err != nil {
		return Disk{}, err
	}
	b.report.Detail("device %s", disk)
	if err := b.machine.Settle(ctx, disk.Node); err != nil {
		return Disk{}, err
	}
	commands, err := b.plan.PreMount(disk)
	if err != nil {
		return Disk{}, err
	}
	for _, command := range commands {
		if err := b.shell(ctx, "pre_mount_commands", command); err != nil {
			return Disk{}, err
		}
		if err := b.machine.Settle(ctx, disk.Node); err != nil {
			return Disk{}, err
		}
	}
	return disk, nil
}

// find waits for the device no longer than a kernel may take. A name that the user gave
// is the disk's, if it is a link to it.
func (b *build) find(ctx context.Context, a attachment) (Disk, error) {
	ctx, cancel := context.WithTimeout(ctx, b.waits.Device)
	defer cancel()
	node, err := b.machine.Find(ctx, disk.Query{
		Volume: string(a.volume), Device: string(a.name), Bytes: a.sizeGiB << 30, Before: a.before,
	})
	if err != nil || b.plan.Device == "" {
		return Disk{Node: node, Name: node}, err
	}
	return Disk{Node: node, Name: b.machine.Called(ctx, b.plan.Device, node)}, nil
}

// shell runs a command of the user on the host.
func (b *build) shell(ctx context.Context, option, command string) error {
	return b.perform(ctx, step{
		name:    option,
		users:   true,
		heading: func() string { return "Running on the host: " + command },
		run: func(ctx context.Context) error {
			err := b.machine.Shell(ctx, command, func(line string) { b.report.Detail("%s", line) })
			if err != nil {
				return fmt.Errorf("%s: %w", option, err)
			}
			return nil
		},
	})
}

// Disk is the root volume's disk on the host.
type Disk struct {
	// Node is the kernel's, such as /dev/nvme1n1.
	Node DevicePath
	// Name is its name in the user's templates: the requested device name, if that is a link
	// to Node, such as /dev/sdf; otherwise Node.
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
