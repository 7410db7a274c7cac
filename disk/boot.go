package disk

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// BootMount is a file system that an image's fstab wants at /boot or /boot/efi.
type BootMount struct {
	Target string
	// Device is the node, and Type what it holds; Options are those of the fstab
	// that mean something to a host.
	Device, Type string
	Options      []string
	// Lack says why it is not to be mounted: then the rest is empty.
	Lack string
	// Optional says that a build can do without it where the kernel does not have
	// the type: the EFI system partition, which hardly anything but a boot loader's
	// package writes to, and what the fstab has as nofail.
	Optional bool
}

const efi = "/boot/efi"

// fromImage are the options that are taken from an image's fstab, those with a =
// with their values. It is not for an image to say more to the host's kernel: an
// option can name a device of the host, such as that of a journal.
var fromImage = []string{
	"ro", "nodev", "nosuid", "noexec", "noatime", "nodiratime", "relatime", "sync", "dirsync",
	"subvol=", "subvolid=", "umask=", "fmask=", "dmask=", "uid=", "gid=", "shortname=",
}

// bootMounts finds what is to be mounted, /boot first.
func bootMounts(fstab []FstabEntry, parts []candidate) []BootMount {
	var mounts []BootMount
	for _, target := range []string{"/boot", efi} {
		i := slices.IndexFunc(fstab, func(e FstabEntry) bool { return e.Target == target && !e.waits() })
		if i >= 0 {
			mounts = append(mounts, bootMount(fstab, fstab[i], parts))
		}
	}
	return mounts
}

// waits tells whether the image itself does not mount it by itself.
func (e FstabEntry) waits() bool {
	return e.has("noauto") && !e.has("x-systemd.automount")
}

func bootMount(fstab []FstabEntry, e FstabEntry, parts []candidate) BootMount {
	m := BootMount{Target: e.Target, Optional: e.Target == efi || e.has("nofail")}
	is, err := e.source(fstab)
	if err != nil {
		m.Lack = err.Error()
		return m
	}
	found := keep(parts, is)
	switch {
	case len(found) == 0:
		m.Lack = fmt.Sprintf("no partition of the disk is %s", e.Spec)
	case len(found) > 1:
		m.Lack = fmt.Sprintf("more than one partition of the disk is %s", e.Spec)
	case !found[0].content.FileSystem:
		m.Lack = fmt.Sprintf("%s has no file system that is known here", found[0].node)
	default:
		m.Device, m.Type = found[0].node, found[0].content.Type
		m.Options = e.harmless()
	}
	return m
}

// harmless are the options that an image may give.
func (e FstabEntry) harmless() []string {
	var options []string
	for _, o := range e.Options {
		name, _, valued := strings.Cut(o, "=")
		if valued {
			name += "="
		}
		if slices.Contains(fromImage, name) && !strings.ContainsAny(o, "\", \t\n") {
			options = append(options, o)
		}
	}
	return options
}

// named are the forms of a source that name a partition by what it is.
var named = map[string]func(c candidate, value string) bool{
	"UUID":      func(c candidate, v string) bool { return strings.EqualFold(c.content.UUID, v) },
	"LABEL":     func(c candidate, v string) bool { return c.content.Label == v },
	"PARTUUID":  func(c candidate, v string) bool { return strings.EqualFold(c.GUID, v) },
	"PARTLABEL": func(c candidate, v string) bool { return c.Name == v },
}

// links are udev's directories of links, for the same.
var links = map[string]string{
	"/dev/disk/by-uuid/": "UUID", "/dev/disk/by-label/": "LABEL",
	"/dev/disk/by-partuuid/": "PARTUUID", "/dev/disk/by-partlabel/": "PARTLABEL",
}

// source is the test for the partition that an entry means.
func (e FstabEntry) source(fstab []FstabEntry) (func(candidate) bool, error) {
	form, value, _ := strings.Cut(e.Spec, "=")
	for dir, name := range links {
		if rest, ok := strings.CutPrefix(e.Spec, dir); ok {
			form, value = name, rest
		}
	}
	if is, ok := named[form]; ok {
		value = strings.Trim(value, `"'`)
		return func(c candidate) bool { return value != "" && is(c, value) }, nil
	}
	base, n, ok := splitNode(e.Spec)
	if !ok {
		return nil, fmt.Errorf("%s is no partition of a disk", e.Spec)
	}
	if !isRootDisk(base, fstab) {
		return nil, fmt.Errorf("%s is on another disk", e.Spec)
	}
	return func(c candidate) bool { return c.Number == n }, nil
}

// partitionNode are the names that kernels give partitions.
var partitionNode = regexp.MustCompile(`^/dev/(?:((?:sd|hd|vd|xvd)[a-z]+)|(nvme[0-9]+n[0-9]+)p)([0-9]{1,3})$`)

// splitNode parts a partition's node into the disk and the number.
func splitNode(node string) (base string, n int, ok bool) {
	m := partitionNode.FindStringSubmatch(node)
	if m == nil {
		return "", 0, false
	}
	n, err := strconv.Atoi(m[3])
	return cmp.Or(m[1], m[2]), n, err == nil
}

// isRootDisk tells whether the image finds its root on the disk that it calls so:
// as its fstab says of the root, or else as the first of its kind.
func isRootDisk(base string, fstab []FstabEntry) bool {
	for _, e := range fstab {
		if root, _, ok := splitNode(e.Spec); ok && e.Target == "/" {
			return root == base
		}
	}
	return slices.Contains([]string{"sda", "hda", "vda", "xvda", "nvme0n1"}, base)
}
