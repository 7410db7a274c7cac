package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// Root returns the root file system of a disk. The partition is that of mount_partition:
// "0" is the whole disk, and a number that partition. If it is empty, Root searches: the
// whole disk if there is no partition table; else the first partition, unless its type is
// one of notRoots, or it has no file system that can be a root, or the disk is a source
// image's and the partition holds files without any sign of a root; else the one whose
// type is one of rootTypes; else the one that has an /etc/os-release or /etc/fstab. More
// than one of these is an error that lists them.
//
// If the choice has a path, it and the partition (1 if there is none) name the node.
//
// A partition that the user has named is always used. RootFS.Warning is set if it does
// not look like a root.
//
// On a btrfs whose default subvolume holds no root, the user's options are preceded by
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
		c, err = rootAt(ctx, device, choice)
	} else {
		c, err = root(ctx, device, choice)
	}
	options := choice.Options
	if err == nil {
		options, err = c.options(ctx, options)
	}
	if err != nil {
		return RootFS{}, fmt.Errorf("cannot find the root partition of %s: %w", device, err)
	}
	return RootFS{Device: c.node, Partition: c.Number, Type: c.fileSystem(), Options: options, Warning: c.warning}, nil
}

// rootAt returns the node that nvme_device_path and mount_partition name literally; but
// it must be the volume's, whose snapshot the image will be.
func rootAt(ctx context.Context, device string, choice Choice) (candidate, error) {
	node := choice.Path + cmp.Or(choice.Partition, "1")
	if choice.Partition == "0" {
		node = choice.Path
	}
	n, err := numberOn(device, node)
	if err != nil {
		return candidate{}, fmt.Errorf("nvme_device_path %q with mount_partition %q is %s, and the volume is %s: %w",
			choice.Path, choice.Partition, node, device, err)
	}
	c, err := candidateOn(device, Partition{Number: n})
	if err == nil {
		c.doubt(ctx, choice.Options, fmt.Sprintf("nvme_device_path %q with mount_partition %q is", choice.Path, choice.Partition))
	}
	return c, err
}

// root returns the root if no path names its node.
func root(ctx context.Context, device string, choice Choice) (candidate, error) {
	t, err := Table{}, error(nil)
	if choice.Partition != "0" {
		t, err = ReadDevice(device)
	}
	if err != nil {
		return candidate{}, err
	}
	var p Partition // the whole disk
	if choice.Partition != "" && choice.Partition != "0" {
		n, err := t.chosen(choice.Partition)
		if err != nil {
			return candidate{}, err
		}
		p, _ = t.Partition(n)
	} else if t.Kind != None {
		return t.choose(ctx, device, choice)
	}
	c, err := candidateOn(device, p)
	switch {
	case err != nil:
	case choice.Partition != "":
		c.doubt(ctx, choice.Options, fmt.Sprintf("mount_partition %q is", choice.Partition))
	case choice.Source:
		c.doubt(ctx, choice.Options, "there is no partition table, so that the root is")
	}
	return c, err
}

// doubt examines a root that is used in any case, and adds a warning if it holds files
// and none of them is a sign of a root. reason is the reason why it is used. If it cannot
// be examined, the mount will return the error.
func (c *candidate) doubt(ctx context.Context, options []string, reason string) {
	if !c.content.FileSystem {
		return
	}
	if err := c.examine(ctx, options); err == nil && !c.seen.sign && !c.seen.blank {
		c.warning = fmt.Sprintf("%s %s, whose %s has no sign of a root (%s)", reason, c.node, c.content.Type, signsText)
	}
}

// candidateOn reads the content of a partition through its own node: the whole disk may
// have older bytes in its cache.
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

// options returns the user's options, after those that lead to the root. It ignores an
// error of the examination, which the mount will return.
func (c candidate) options(ctx context.Context, wanted []string) ([]string, error) {
	if c.content.Type != "btrfs" || namesSubvolume(wanted) {
		return wanted, nil
	}
	seen := c.seen
	if !seen.fits {
		seen, _ = inspect(ctx, c.node, c.content.Type, nil)
	}
	return append(seen.options, wanted...), seen.several
}

// namesSubvolume reports whether the user has chosen a subvolume.
func namesSubvolume(options []string) bool { return len(subvolumeIn(options)) > 0 }

// subvolumeIn returns the options that choose a subvolume.
func subvolumeIn(options []string) []string {
	return slices.DeleteFunc(strings.Split(strings.Join(options, ","), ","), func(o string) bool {
		return !strings.HasPrefix(o, "subvol=") && !strings.HasPrefix(o, "subvolid=")
	})
}

// choose returns the root among the partitions.
func (t Table) choose(ctx context.Context, device string, choice Choice) (candidate, error) {
	all, err := t.candidates(device)
	if err != nil {
		return candidate{}, err
	}
	if len(all) == 0 {
		return candidate{}, fmt.Errorf("its %s table has no partition for a file system", t.Kind)
	}
	unseen := all[0].why == ""
	if unseen && (!choice.Source || all[0].byDefault(ctx, choice.Options, all[1:])) {
		return all[0], nil
	}
	possible := filter(all, func(c candidate) bool { return c.why == "" })
	marked := filter(possible, func(c candidate) bool { return rootTypes[c.Type] != "" })
	switch len(marked) {
	case 0:
	case 1:
		return marked[0], nil
	default:
		possible = marked
	}
	blank := all[0].seen.blank // probe sorts possible, not all
	c, err := probe(ctx, all, possible, choice.Options)
	switch {
	case blank && !errors.Is(err, errSeveral) && !c.seen.sign:
		return all[0], nil // no other is a root: the empty one is to be filled
	case err == nil && c.seen.blank && unseen:
		err = noneLooks(all, possible) // an empty one is no better than the first
	}
	return c, err
}

// byDefault reports whether the first partition of a source image is its root in any
// case: it has a sign of a root, or no other partition can be the root. If it cannot be
// examined, it is the root, with a warning.
func (c *candidate) byDefault(ctx context.Context, options []string, others []candidate) bool {
	err := c.examine(ctx, options)
	alone := len(filter(others, candidate.mayHoldRoot)) == 0
	switch {
	case err != nil:
		c.warning = fmt.Sprintf("%s is assumed to be the root only because it is the first partition: %v; if the root is another one, say which by mount_partition", c.node, err)
	case c.seen.sign, alone && c.seen.blank:
	case alone:
		c.warning = fmt.Sprintf("%s is assumed to be the root because no other partition can be: its %s has no sign of a root (%s)", c.node, c.content.Type, signsText)
	default:
		return false
	}
	c.why = ""
	return true
}

// mayHoldRoot reports whether a root may be in a partition, even in a form that is not
// known here.
func (c candidate) mayHoldRoot() bool {
	return notRoots[c.Type] == "" && c.content.Type != "swap" && c.content.Type != "vfat"
}

// candidates returns the partitions in the order of their numbers, without those that
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

// probe examines those that may be the root, the largest first. A single empty one is the
// root, to be filled. The error lists all.
func probe(ctx context.Context, all, possible []candidate, options []string) (candidate, error) {
	slices.SortStableFunc(possible, func(a, b candidate) int { return cmp.Compare(b.Length, a.Length) })
	for i := range possible {
		_ = possible[i].examine(ctx, options) // it is in why
	}
	fit := filter(possible, func(c candidate) bool { return c.seen.fits })
	if len(fit) == 0 {
		fit = filter(possible, func(c candidate) bool { return c.seen.sign })
	}
	fit = slices.CompactFunc(fit, candidate.sameBtrfs)
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		return candidate{}, fmt.Errorf("%w; say which by mount_partition:%s", errSeveral, list(all, possible))
	case len(possible) == 1 && possible[0].seen.blank:
		return possible[0], nil
	default:
		return candidate{}, noneLooks(all, possible)
	}
}

func noneLooks(all, possible []candidate) error {
	return fmt.Errorf("no partition looks like a root; say which it is by mount_partition:%s", list(all, possible))
}

// examine examines a candidate. The error means that this was not possible.
func (c *candidate) examine(ctx context.Context, options []string) (err error) {
	c.seen, err = inspect(ctx, c.node, c.content.Type, subvolumeIn(options))
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
	return err
}

// fileSystem returns the type to mount it with. If there is none, the mount will return
// the best error.
func (c candidate) fileSystem() string {
	if c.content.FileSystem {
		return c.content.Type
	}
	return ""
}
