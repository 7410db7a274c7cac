package disk

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// Choice holds the user's options about the root.
type Choice struct {
	// Partition is mount_partition: "0" for the whole disk, a number, or empty to search.
	Partition string
	// Path is nvme_device_path: with the partition's number appended it is the node to
	// mount. If it is empty, the node is found.
	Path string
	// Options are the mount options.
	Options []string
	// Source reports whether the disk is a copy of a source image's: its content is
	// evidence of the place of the root. On a disk that the build itself has filled, the
	// partition is used as given.
	Source bool
}

// RootFS is a root file system to mount.
type RootFS struct {
	// Device is the node of the partition, or of the whole disk.
	Device string
	// Partition is its number, 0 for the whole disk.
	Partition int
	// Type is the kernel's name of the file system's type; empty if it is not known.
	Type string
	// Options are the mount options: those given, and those that lead to the root, such
	// as subvol=@.
	Options []string
	// Warning is the reason why this may not be the root after all; it is empty if there
	// is no doubt.
	Warning string
}

// findings are the results of examining a file system.
type findings struct {
	// fits reports whether it has a root: an os-release or an fstab.
	fits bool
	// sign reports whether it has any sign of a root, however weak.
	sign bool
	// blank reports whether it is empty.
	blank bool
	// options lead to the root, if mounting without them does not: subvol=@.
	options []string
	// several, if not nil, is the error that more than one subvolume holds a root.
	several error
}

// candidate is a partition with its content. The whole disk has the number 0.
type candidate struct {
	Partition
	node    string
	content superblock.Content
	seen    findings
	// why is the reason why it is not the root, if that is known.
	why string
	// warning is the reason why it may not be the root although it was chosen.
	warning string
}

// sameBtrfs reports whether two partitions are parts of one btrfs.
func (c candidate) sameBtrfs(other candidate) bool {
	return c.content.Devices > 1 && other.content.Devices > 1 && c.content.UUID == other.content.UUID
}

// noRoot returns the reason why a partition is certainly not a root; it is empty if it
// may be one.
func (c candidate) noRoot() string {
	switch kind, ok := notRoots[c.Type]; {
	case ok:
		return "its type is " + kind
	case c.content.Type == "":
		return "it has no file system"
	case !c.content.CanBeRoot():
		return c.content.Type + " is no file system for a root"
	default:
		return ""
	}
}

// String describes the candidate for a message.
func (c candidate) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "partition %d (type %s", c.Number, typeName(c.Type))
	if c.content.Type != "" {
		fmt.Fprintf(&b, ", %s", c.content.Type)
	}
	if c.content.Label != "" {
		fmt.Fprintf(&b, ", label %q", c.content.Label)
	}
	fmt.Fprintf(&b, ", %s)", Size(c.Length))
	if c.why != "" {
		b.WriteString(": " + c.why)
	}
	return b.String()
}

// Size formats a number of bytes for a message. It uses only whole units.
func Size(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for bytes > 0 && bytes%1024 == 0 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	return fmt.Sprintf("%d %s", bytes, units[i])
}

// list formats all candidates, one to a line, with the findings about those that were
// examined.
func list(all, examined []candidate) string {
	var b strings.Builder
	for _, c := range all {
		for _, e := range examined {
			if e.Number == c.Number {
				c = e
			}
		}
		b.WriteString("\n  " + c.String())
	}
	return b.String()
}

// filter returns the candidates for which is returns true.
func filter(candidates []candidate, is func(candidate) bool) []candidate {
	var kept []candidate
	for _, c := range candidates {
		if is(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// chosen returns the number in mount_partition, or an error if the table has no such partition.
func (t Table) chosen(partition string) (int, error) {
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
