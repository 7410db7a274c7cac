package disk

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// FstabMount is an entry of an image's fstab to mount below the root.
type FstabMount struct {
	// Target is an absolute path in the image, and Spec the source in the fstab, both in
	// a form that can be printed.
	Target, Spec string
	// Device is the node, and Type the type of its file system; Options are those of the
	// fstab that concern a host.
	Device, Type string
	Options      []string
	// Lack is the reason why it cannot be mounted: then Device, Type and Options are
	// empty.
	Lack string
	// Note describes a peculiarity of the entry, if there is one.
	Note string
	// Optional reports whether a build can go without it if the kernel lacks the type:
	// the EFI system partition, to which hardly a package but a boot loader's writes, and
	// entries with nofail.
	Optional bool
}

const (
	efi = "/boot/efi"
	// mostMounts is the number of entries of an fstab that are used; longestPath is
	// PATH_MAX.
	mostMounts, longestPath = 100, 4096
)

// fromImage are the options that are taken from an image's fstab, those with a = with
// their values. An image must not pass more to the host's kernel: an option can name a
// device of the host, such as that of a journal. noexec is missing, because provisioners
// run their scripts in /tmp.
var fromImage = []string{
	"ro", "nodev", "nosuid", "noatime", "nodiratime", "relatime", "sync", "dirsync",
	"subvol=", "subvolid=", "umask=", "fmask=", "dmask=", "uid=", "gid=", "shortname=",
}

// elsewhere are the types of entries without a disk: the image mounts them when it boots,
// and files that a build has written there are not expected afterwards.
var elsewhere = []string{
	"swap", "ignore", "tmpfs", "ramfs", "proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs",
	"tracefs", "hugetlbfs", "mqueue", "configfs", "fusectl", "binfmt_misc", "pstore", "bpf", "efivarfs", "selinuxfs",
	"rpc_pipefs", "nfsd", "usbfs", "autofs",
}

// network are types of file systems of other hosts.
var network = []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "9p", "virtiofs", "afs", "lustre", "efs", "s3fs"}

// fstabMounts returns the mounts of an fstab, parents before the mounts below them, and
// else in the order of the fstab.
func fstabMounts(fstab []FstabEntry, parts []candidate) []FstabMount {
	var mounts []FstabMount
	at := map[string]int{} // the index of a target in mounts
	disks := rootDisks(fstab)
	for _, e := range fstab {
		if e.isElsewhere() {
			continue
		}
		m := e.mount(disks, parts)
		i, again := at[e.Target]
		if !again {
			at[e.Target] = len(mounts)
			mounts = append(mounts, m)
		} else {
			mounts[i] = mounts[i].or(m)
		}
	}
	slices.SortStableFunc(mounts, func(a, b FstabMount) int {
		return cmp.Compare(strings.Count(a.Target, "/"), strings.Count(b.Target, "/"))
	})
	return atMost(mounts)
}

// or returns the entry of two with one target that is mounted: the first that can be.
func (m FstabMount) or(later FstabMount) FstabMount {
	switch {
	case later.Lack != "":
		return m
	case m.Lack != "":
		return later
	case m.Device != later.Device || !slices.Equal(m.Options, later.Options):
		m.Note = "a later entry of the fstab mounts " + later.Spec + " there"
	}
	return m
}

// atMost drops entries that no fstab of a bootable system has.
func atMost(mounts []FstabMount) []FstabMount {
	if len(mounts) <= mostMounts {
		return mounts
	}
	rest := mounts[mostMounts:]
	first := rest[max(0, slices.IndexFunc(rest, func(m FstabMount) bool { return m.Target == "/usr" }))]
	lack := fmt.Sprintf("it is one of %d entries beyond the %d that are mounted at most", len(rest), mostMounts)
	return append(mounts[:mostMounts:mostMounts], FstabMount{Target: first.Target, Spec: first.Spec, Lack: lack})
}

// isElsewhere reports whether a build ignores an entry: the root itself, one without a
// disk, or one that the image does not mount by itself.
func (e FstabEntry) isElsewhere() bool {
	return e.Target == "/" || e.Target == "none" || e.Target == "swap" || slices.Contains(elsewhere, e.Type) ||
		e.has("noauto") && !e.has("x-systemd.automount")
}

// mount returns the mount of an entry, with the reason if it cannot be mounted.
func (e FstabEntry) mount(disks []string, parts []candidate) FstabMount {
	m := FstabMount{Target: e.Target, Spec: shown(e.Spec), Optional: e.Target == efi || e.has("nofail")}
	err := e.checkTarget()
	var found candidate
	if err == nil {
		found, err = e.find(disks, parts)
	}
	if err != nil {
		m.Target, m.Lack = shown(e.Target), err.Error()
		return m
	}
	m.Device, m.Type, m.Options = found.node, found.content.Type, e.harmless()
	return m
}

// checkTarget returns an error if nothing of an image may be mounted on a target.
func (e FstabEntry) checkTarget() error {
	top, _, _ := strings.Cut(strings.TrimPrefix(e.Target, "/"), "/")
	switch {
	case !path.IsAbs(e.Target):
		return errors.New("its target is not an absolute path")
	case len(e.Target) >= longestPath || !utf8.ValidString(e.Target) || strings.ContainsFunc(e.Target, unicode.IsControl):
		return errors.New("its target is no path that a build mounts on")
	case slices.Contains([]string{"proc", "sys", "dev"}, top):
		return fmt.Errorf("/%s is the kernel's", top)
	}
	return nil
}

// find returns the partition that an entry names.
func (e FstabEntry) find(disks []string, parts []candidate) (candidate, error) {
	is, err := e.source(disks)
	if err != nil {
		return candidate{}, err
	}
	found := slices.CompactFunc(filter(parts, is), candidate.sameBtrfs)
	switch {
	case len(found) == 0:
		return candidate{}, fmt.Errorf("no partition of the disk is %s%s", shown(e.Spec), unopened(parts))
	case len(found) > 1:
		return candidate{}, fmt.Errorf("more than one partition of the disk is %s", shown(e.Spec))
	case !found[0].content.FileSystem && found[0].content.Type != "":
		return candidate{}, fmt.Errorf("%s holds %s, and no file system", found[0].node, found[0].content.Type)
	case !found[0].content.FileSystem:
		return candidate{}, fmt.Errorf("%s has no file system that is known here", found[0].node)
	}
	return found[0], nil
}

// unopened describes the partition in which a file system may be that cannot be seen.
func unopened(parts []candidate) string {
	for _, c := range parts {
		if c.content.Type == "LVM" || c.content.Type == "LUKS" {
			return fmt.Sprintf(", and the %s of %s is not opened by a build", c.content.Type, c.node)
		}
	}
	return ""
}

// shown returns a text of an image in a form that can be printed: not too long, and
// without control sequences for a terminal.
func shown(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most] + "..."
	}
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

// harmless returns the options that an image may set.
func (e FstabEntry) harmless() []string {
	var options []string
	for _, o := range e.Options {
		name, _, valued := strings.Cut(o, "=")
		if valued {
			name += "="
		}
		if slices.Contains(fromImage, name) && !strings.ContainsAny(o, "\", \t\n\x00") && len(o) < longestPath {
			options = append(options, o)
		}
	}
	return options
}
