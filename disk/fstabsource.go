package disk

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// identities are the forms of a source that identify a partition by its content or by its
// entry in the partition table.
var identities = map[string]func(c candidate, value string) bool{
	"UUID":      func(c candidate, v string) bool { return strings.EqualFold(c.content.UUID, v) },
	"LABEL":     func(c candidate, v string) bool { return c.content.Label == v },
	"PARTUUID":  func(c candidate, v string) bool { return strings.EqualFold(c.GUID, v) },
	"PARTLABEL": func(c candidate, v string) bool { return c.Name == v },
}

// links are udev's directories of links, with the form that each stands for.
var links = map[string]string{
	"/dev/disk/by-uuid/": "UUID", "/dev/disk/by-label/": "LABEL",
	"/dev/disk/by-partuuid/": "PARTUUID", "/dev/disk/by-partlabel/": "PARTLABEL",
}

// source returns the test for the partition that an entry means. disks are the names
// that the image has for its root's disk.
func (e FstabEntry) source(disks []string) (func(candidate) bool, error) {
	form, value, _ := strings.Cut(e.Spec, "=")
	for dir, name := range links {
		if rest, ok := strings.CutPrefix(e.Spec, dir); ok {
			form, value = name, fromUdev(rest)
		}
	}
	if is, ok := identities[form]; ok {
		value = strings.Trim(value, `"'`)
		return func(c candidate) bool { return value != "" && is(c, value) }, nil
	}
	base, n, ok := splitNode(e.Spec)
	if !ok {
		return nil, e.noPartition()
	}
	if !slices.Contains(disks, base) {
		return nil, fmt.Errorf("%s is on another disk", shown(e.Spec))
	}
	return func(c candidate) bool { return c.Number == n }, nil
}

// logicalVolume is a name that LVM gives a volume.
var logicalVolume = regexp.MustCompile(`^/dev/[^/]+/[^/]+$`)

// noPartition describes a source that names no partition.
func (e FstabEntry) noPartition() error {
	spec := shown(e.Spec)
	_, host, _ := strings.Cut(e.Spec, ":")
	switch {
	case slices.Contains(network, strings.TrimPrefix(e.Type, "fuse.")), strings.HasPrefix(e.Spec, "//"), strings.HasPrefix(host, "/"):
		return fmt.Errorf("%s is a file system of another host (%s)", spec, shown(e.Type))
	case strings.HasPrefix(e.Spec, "/dev/mapper/"), logicalVolume.MatchString(e.Spec):
		return fmt.Errorf("%s is a volume of LVM, LUKS or the like, which a build does not open", spec)
	case e.has("bind"), e.has("rbind"), e.Type == "bind":
		return fmt.Errorf("it is a bind mount of %s", spec)
	}
	return fmt.Errorf("%s is no partition of a disk", spec)
}

// fromUdev decodes \x20 and similar sequences, with which udev writes characters that
// must not be in a link's name.
func fromUdev(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if strings.HasPrefix(name[i:], `\x`) && i+4 <= len(name) {
			if n, err := strconv.ParseUint(name[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// The names of disks and partitions: the kernel's, and udev's links by path and by id.
var (
	partitionNode = regexp.MustCompile(`^(?:/dev/(?:((?:sd|hd|vd|xvd)[a-z]+)|(nvme[0-9]+n[0-9]+)p)|(/dev/disk/by-(?:id|path)/[^/]+)-part)([0-9]{1,3})$`)
	diskNode      = regexp.MustCompile(`^(?:/dev/((?:sd|hd|vd|xvd)[a-z]+|nvme[0-9]+n[0-9]+)|(/dev/disk/by-(?:id|path)/[^/]+))$`)
)

// splitNode splits a node into the disk and the partition's number, 0 for the whole disk.
func splitNode(node string) (base string, n int, ok bool) {
	if m := partitionNode.FindStringSubmatch(node); m != nil {
		n, err := strconv.Atoi(m[4])
		return cmp.Or(m[1], m[2], m[3]), n, err == nil && n > 0
	}
	if m := diskNode.FindStringSubmatch(node); m != nil {
		return cmp.Or(m[1], m[2]), 0, true
	}
	return "", 0, false
}

// rootDisks returns the names that an image has for the disk of its root: the one in its
// fstab's entry of the root, or else the names of the first disk of each kind.
func rootDisks(fstab []FstabEntry) []string {
	for _, e := range fstab {
		if e.Target == "/" {
			if root, _, ok := splitNode(e.Spec); ok {
				return []string{root}
			}
		}
	}
	return []string{"sda", "hda", "vda", "xvda", "nvme0n1"}
}
