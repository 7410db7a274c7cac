package chroot

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
)

const (
	// selinuxConfig says whether and how an image uses SELinux; selinux_config(5).
	selinuxConfig = "/etc/selinux/config"
	// selinuxLabel is the extended attribute that holds a file's label.
	selinuxLabel = "security.selinux"
	// relabelFile has an image label all its files when it boots, and then boot again;
	// selinux-autorelabel(8).
	relabelFile = "/.autorelabel"
	// labelSearchLimit bounds the search for files without a label: on a volume whose
	// blocks are fetched when they are read first, looking at every file takes long.
	labelSearchLimit = 10 * time.Second
)

// Labels returns what the build means for the image's SELinux labels. Its Mode is empty
// if new files get labels or need none: if this host uses SELinux, or the image does
// not, or is permissive and has never been labelled. If search is true it looks for
// files without a label that were created since the root was mounted.
func (m *Mounted) Labels(ctx context.Context, search bool) (Labels, error) {
	in, err := m.open()
	if err != nil {
		return Labels{}, err
	}
	defer in.close()
	config, err := in.text(selinuxConfig)
	if err != nil {
		return Labels{}, ignoreMissing(err)
	}
	l := readSELinux(config)
	labelled := hasLabel(procPath(in.dir) + "/.")
	if hostUsesSELinux() || l.Mode == "permissive" && !labelled {
		return Labels{}, nil
	}
	if l.Mode == "" || !search {
		return l, nil
	}
	if relabel, err := in.open(relabelFile, unix.O_PATH|unix.O_NOFOLLOW, 0); err == nil {
		return l, relabel.Close()
	}
	if !labelled {
		l.Unlabelled = "/"
		return l, nil
	}
	return l, m.searchUnlabelled(ctx, in, &l)
}

// hostUsesSELinux reports whether the kernel labels new files: its file system is
// registered only if SELinux was not turned off at boot.
func hostUsesSELinux() bool {
	types, err := os.ReadFile("/proc/filesystems")
	return err == nil && strings.Contains(string(types), "\tselinuxfs\n")
}

var policyName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)

// readSELinux reads mode and policy of selinux_config(5). As in libselinux, the first
// line that sets one counts, and the case of a mode does not.
func readSELinux(config string) Labels {
	var l Labels
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
		return Labels{}
	}
	l.Policy = cmp.Or(l.Policy, "targeted")
	return l
}

// text returns the content of a small regular file.
func (in *inside) text(name string) (string, error) {
	f, err := in.regular(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(f, most))
	return string(raw), err
}

// hasLabel reports whether a file has a label, or cannot have one. It does not follow a
// link.
func hasLabel(name string) bool {
	_, err := unix.Lgetxattr(name, selinuxLabel, nil)
	return !errors.Is(err, unix.ENODATA)
}

// searchUnlabelled looks for a file without a label, the directories at the top first.
func (m *Mounted) searchUnlabelled(ctx context.Context, in *inside, l *Labels) error {
	s := labelSearch{in: in, since: m.since}
	var err error
	if s.mounts, err = m.ownMounts(); err != nil {
		return err
	}
	end := time.Now().Add(labelSearchLimit)
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

// ownMounts returns the IDs of the mounts of the root and of further file systems of
// its disk, but not of those of the host.
func (m *Mounted) ownMounts() (map[uint64]bool, error) {
	r, err := m.reach()
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(m.real))
	own := map[uint64]bool{}
	for _, mount := range mounts {
		if r.devices[mounttable.Device(mount)] {
			own[uint64(mount.ID)] = true
		}
	}
	return own, err
}

// labelSearch is a search for files without a label.
type labelSearch struct {
	in     *inside
	since  time.Time
	mounts map[uint64]bool
	// dirs are still to be searched.
	dirs []string
}

// searchDir searches one directory, and adds those in it to the search. A directory that
// cannot be read, or is gone, holds nothing.
func (s *labelSearch) searchDir(dir string) (unlabelled string) {
	f, err := s.in.open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
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
		if time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)).After(s.since) && !hasLabel(procPath(f)+"/"+name) {
			return path.Join(dir, name)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			s.dirs = append(s.dirs, path.Join(dir, name))
		}
	}
	return ""
}
