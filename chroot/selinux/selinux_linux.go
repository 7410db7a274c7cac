package selinux

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

const (
	// configFile has an image's SELinux mode and policy; selinux_config(5).
	configFile = "/etc/selinux/config"
	// labelAttribute is the extended attribute that holds a file's label.
	labelAttribute = "security.selinux"
	// relabelFile has an image label all its files when it boots, and then boot again;
	// selinux-autorelabel(8).
	relabelFile = "/.autorelabel"
	// searchLimit is the time limit of the search for files without a label: on a volume
	// whose blocks are fetched when they are read first, reading every inode takes long.
	searchLimit = 10 * time.Second
)

// Root is the root of an image whose labels are examined.
type Root struct {
	Root *rootfs.Root
	// Since is the time at which the root was mounted.
	Since time.Time
	// Mounts returns the ids of the mounts that are searched: those of the image's disk.
	Mounts func() (map[uint64]bool, error)
}

// Examine returns the consequences of a build for the image's labels. Mode is empty if
// new files get labels or need none: if this host uses SELinux, or the image does not, or
// is permissive and was never labelled. If search is true, it looks for files without a
// label that were created since the root was mounted.
func (r Root) Examine(ctx context.Context, search bool) (Contexts, error) {
	config, err := r.Root.ReadText(configFile)
	if err != nil {
		return Contexts{}, rootfs.IgnoreMissing(err)
	}
	l := parseConfig(config)
	labelled := hasLabel(r.Root.ProcPath() + "/.")
	if hostLabels() || l.Mode == "permissive" && !labelled {
		return Contexts{}, nil
	}
	if l.Mode == "" || !search {
		return l, nil
	}
	if relabel, err := r.Root.Open(relabelFile, unix.O_PATH|unix.O_NOFOLLOW, 0); err == nil {
		return l, relabel.Close()
	}
	if !labelled {
		l.Unlabelled = "/"
		return l, nil
	}
	return l, r.search(ctx, &l)
}

// hostLabels reports whether the kernel labels new files: its file system is
// registered only if SELinux was not turned off at boot.
func hostLabels() bool {
	types, err := os.ReadFile("/proc/filesystems")
	return err == nil && strings.Contains(string(types), "\tselinuxfs\n")
}

var policyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// parseConfig reads mode and policy of selinux_config(5). As in libselinux, the first
// line that sets one counts, and the case of a mode does not.
func parseConfig(config string) Contexts {
	var l Contexts
	for line := range strings.Lines(config) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), "=")
		value = strings.TrimSpace(value)
		switch mode := strings.ToLower(value); {
		case key == "SELINUX" && l.Mode == "" && slices.Contains([]string{"enforcing", "permissive", "disabled"}, mode):
			l.Mode = mode
		case key == "SELINUXTYPE" && l.Policy == "" && policyName.MatchString(value):
			l.Policy = value
		}
	}
	if l.Mode == "disabled" || l.Mode == "" {
		return Contexts{}
	}
	l.Policy = cmp.Or(l.Policy, "targeted")
	return l
}

// hasLabel reports whether a file has a label, or cannot have one. It does not follow a
// link.
func hasLabel(name string) bool {
	_, err := unix.Lgetxattr(name, labelAttribute, nil)
	return !errors.Is(err, unix.ENODATA)
}

// search looks for a file without a label, the directories at the top first.
func (r Root) search(ctx context.Context, l *Contexts) error {
	mounts, err := r.Mounts()
	if err != nil {
		return err
	}
	s := labelSearch{in: r.Root, since: r.Since, mounts: mounts}
	end := time.Now().Add(searchLimit)
	for s.dirs = []string{"/"}; len(s.dirs) > 0 && l.Unlabelled == ""; {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if l.Unsearched = time.Now().After(end); l.Unsearched {
			return nil
		}
		dir := s.dirs[0]
		s.dirs = s.dirs[1:]
		l.Unlabelled = s.searchDir(dir)
	}
	return nil
}

// labelSearch is a search for files without a label.
type labelSearch struct {
	in     *rootfs.Root
	since  time.Time
	mounts map[uint64]bool
	// dirs are still to be searched.
	dirs []string
}

// searchDir searches one directory, and adds those in it to the search. A directory that
// cannot be read, or is gone, counts as empty.
func (s *labelSearch) searchDir(dir string) (unlabelled string) {
	f, err := s.in.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	slices.Sort(names)
	for _, name := range names {
		var st unix.Statx_t
		const what = unix.STATX_TYPE | unix.STATX_CTIME | unix.STATX_MNT_ID
		err := unix.Statx(int(f.Fd()), name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, what, &st)
		known := st.Mask&unix.STATX_MNT_ID != 0 // not before Linux 5.8
		if err != nil || known && !s.mounts[st.Mnt_id] {
			continue
		}
		if time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)).After(s.since) && !hasLabel(rootfs.ProcPath(f)+"/"+name) {
			return path.Join(dir, name)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			s.dirs = append(s.dirs, path.Join(dir, name))
		}
	}
	return ""
}
