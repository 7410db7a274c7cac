package disk

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// Root finds the root file system of a disk. The partition is what mount_partition
// says: "0" is the whole disk, a number that partition. Empty means that it is to
// be found: the whole disk where there is no partition table; else the first
// partition, unless that is plainly no root (an EFI system, BIOS boot, boot loader
// or swap partition by its type, or without a file system that can be one); else
// the one whose type says that it is a root; else the one that has an
// /etc/os-release or /etc/fstab. More than one such is an error that lists them.
//
// Where the choice has a path, it and the partition (1 if there is none) name the
// node.
//
// On a btrfs whose
// default subvolume holds no root the options that the user wants are preceded by
// the subvolume that does, unless they name one.
//
// The device must have settled. Nothing on it is changed.
func Root(ctx context.Context, device string, choice Choice) (RootFS, error) {
	device, err := filepath.EvalSymlinks(device)
	if err != nil {
		return RootFS{}, fmt.Errorf("cannot find the root partition: %w", err)
	}
	var c candidate
	if choice.Path != "" {
		c, err = rootAt(device, choice)
	} else {
		c, err = root(ctx, device, choice.Partition)
	}
	options := choice.Options
	if err == nil {
		options, err = c.options(ctx, options)
	}
	if err != nil {
		return RootFS{}, fmt.Errorf("cannot find the root partition of %s: %w", device, err)
	}
	return RootFS{Device: c.node, Partition: c.Number, Type: c.fileSystem(), Options: options}, nil
}

// rootAt is the node that nvme_device_path and mount_partition name, to the letter;
// but it must be the volume's, whose snapshot the image will be.
func rootAt(device string, choice Choice) (candidate, error) {
	node := choice.Path + cmp.Or(choice.Partition, "1")
	if choice.Partition == "0" {
		node = choice.Path
	}
	n, err := numberOn(device, node)
	if err != nil {
		return candidate{}, fmt.Errorf("nvme_device_path %q with mount_partition %q is %s, and the volume is %s: %w",
			choice.Path, choice.Partition, node, device, err)
	}
	return candidateOn(device, Partition{Number: n})
}

func root(ctx context.Context, device, partition string) (candidate, error) {
	whole := Partition{}
	if partition == "0" {
		return candidateOn(device, whole)
	}
	t, err := ReadDevice(device)
	if err != nil {
		return candidate{}, err
	}
	if partition != "" {
		n, err := t.named(partition)
		if err != nil {
			return candidate{}, err
		}
		named, _ := t.Partition(n)
		return candidateOn(device, named)
	}
	if t.Kind == None {
		return candidateOn(device, whole)
	}
	return t.choose(ctx, device)
}

// candidateOn reads what a partition holds, through its own node: the whole disk
// may have older bytes in its cache.
func candidateOn(device string, p Partition) (candidate, error) {
	c := candidate{Partition: p, node: device}
	if p.Number > 0 {
		c.node = PartitionPath(device, p.Number)
	}
	if err := isDevice(c.node); err != nil {
		return c, fmt.Errorf("cannot use partition %d: %s: %w", p.Number, c.node, err)
	}
	f, err := os.Open(c.node)
	if err != nil {
		return c, err
	}
	defer f.Close()
	c.content, err = superblock.Read(f)
	return c, err
}

// options are those that the user wants, after what it takes to get to the root.
// That a look fails is left for the mount to tell.
func (c candidate) options(ctx context.Context, wanted []string) ([]string, error) {
	if c.content.Type != "btrfs" || namesSubvolume(wanted) {
		return wanted, nil
	}
	seen := c.seen
	if !seen.fits {
		seen, _ = look(ctx, c.node, c.content.Type)
	}
	return append(seen.options, wanted...), seen.several
}

// namesSubvolume tells whether the user has chosen a subvolume.
func namesSubvolume(options []string) bool {
	return slices.ContainsFunc(strings.Split(strings.Join(options, ","), ","), func(o string) bool {
		return strings.HasPrefix(o, "subvol=") || strings.HasPrefix(o, "subvolid=")
	})
}

// choose finds the root among the partitions.
func (t Table) choose(ctx context.Context, device string) (candidate, error) {
	all, err := t.candidates(device)
	if err != nil {
		return candidate{}, err
	}
	if len(all) == 0 {
		return candidate{}, fmt.Errorf("its %s table has no partition for a file system", t.Kind)
	}
	if all[0].why == "" {
		return all[0], nil
	}
	possible := keep(all, func(c candidate) bool { return c.why == "" })
	marked := keep(possible, func(c candidate) bool { return rootTypes[c.Type] != "" })
	switch len(marked) {
	case 0:
		return probe(ctx, all, possible)
	case 1:
		return marked[0], nil
	default:
		return probe(ctx, all, marked)
	}
}

// candidates are the partitions in the order of their numbers, without those that
// hold other partitions.
func (t Table) candidates(device string) ([]candidate, error) {
	var all []candidate
	for _, p := range t.Partitions {
		if t.Kind == MBR && p.Extended() {
			continue
		}
		c, err := candidateOn(device, p)
		if err != nil {
			return nil, err
		}
		c.why = c.noRoot()
		all = append(all, c)
	}
	return all, nil
}

// probe looks into those that may be the root, largest first. One that is alone
// and empty is to be filled. The error lists all.
func probe(ctx context.Context, all, possible []candidate) (candidate, error) {
	slices.SortStableFunc(possible, func(a, b candidate) int { return cmp.Compare(b.Length, a.Length) })
	for i := range possible {
		possible[i].examine(ctx)
	}
	fit := keep(possible, func(c candidate) bool { return c.seen.fits })
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return candidate{}, fmt.Errorf("%w; say which by mount_partition:%s", errSeveral, list(all, possible))
	case len(possible) == 1 && possible[0].seen.blank:
		return possible[0], nil
	default:
		return candidate{}, fmt.Errorf("no partition looks like a root; say which it is by mount_partition:%s", list(all, possible))
	}
}

// examine looks into a candidate.
func (c *candidate) examine(ctx context.Context) {
	var err error
	c.seen, err = look(ctx, c.node, c.content.Type)
	switch {
	case err != nil:
		c.why = err.Error()
	case c.seen.fits:
		c.why = "it looks like a root"
	case c.seen.blank:
		c.why = "it is empty"
	default:
		c.why = "it has no /etc/os-release and no /etc/fstab"
	}
}

// fileSystem is the type to mount it by; what is none, a mount tells best.
func (c candidate) fileSystem() string {
	if c.content.FileSystem {
		return c.content.Type
	}
	return ""
}
