package disk

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// Choice is what the user says of the root.
type Choice struct {
	// Partition is mount_partition: "0" for the whole disk, a number, or empty for
	// what is found.
	Partition string
	// Path is nvme_device_path: what the partition's number is appended to, to name
	// the node to mount. If it is empty the node is known.
	Path string
	// Options are what it is to be mounted with.
	Options []string
	// Source says that the disk is a copy of a source image's: what it holds is
	// evidence of where the root is. A disk that the build itself has filled is
	// taken at its word.
	Source bool
}

// RootFS is a root file system to be mounted.
type RootFS struct {
	// Device is the node of the partition, or of the whole disk.
	Device string
	// Partition is its number, 0 for the whole disk.
	Partition int
	// Type is the kernel's name of the file system's type; empty if it is not known.
	Type string
	// Options are what it is to be mounted with: those that were given, and what
	// it takes to get to the root, such as subvol=@.
	Options []string
	// Warning says why this may not be the root after all; it is empty if there is
	// no doubt.
	Warning string
}

// glance is what a look into a file system has found.
type glance struct {
	// fits says that a root lies there: it has an os-release or an fstab.
	fits bool
	// sign says that there is any sign of a root, however weak.
	sign bool
	// blank says that nothing lies there yet.
	blank bool
	// options lead to the root, where mounting without does not: subvol=@.
	options []string
	// several, if not nil, says that more than one subvolume holds a root.
	several error
}

// candidate is a partition and what it holds. The whole disk has the number 0.
type candidate struct {
	Partition
	node    string
	content superblock.Content
	seen    glance
	// why says why it is not the root, where that is known.
	why string
	// warning says why it may not be the root although it was chosen.
	warning string
}

// sameBtrfs reports whether two partitions are parts of one btrfs.
func (c candidate) sameBtrfs(other candidate) bool {
	return c.content.Devices > 1 && other.content.Devices > 1 && c.content.UUID == other.content.UUID
}

// noRoot says why a partition is plainly no root; it is empty if it may be one.
func (c candidate) noRoot() string {
	switch what, ok := notRoots[c.Type]; {
	case ok:
		return "its type is " + what
	case c.content.Type == "":
		return "it has no file system"
	case !c.content.CanBeRoot():
		return c.content.Type + " is no file system for a root"
	default:
		return ""
	}
}

// String describes the candidate to whoever has to choose.
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

// Size is a number of bytes as people say it. Only whole units are used.
func Size(bytes int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for bytes > 0 && bytes%1024 == 0 && i < len(units)-1 {
		bytes /= 1024
		i++
	}
	return fmt.Sprintf("%d %s", bytes, units[i])
}

// list writes all candidates, one to a line, with what was found out about some.
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

// keep are the candidates of which something is true.
func keep(candidates []candidate, is func(candidate) bool) []candidate {
	var kept []candidate
	for _, c := range candidates {
		if is(c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// named finds the partition that the user has named.
func (t Table) named(partition string) (int, error) {
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
