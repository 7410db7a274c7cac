package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/exclusive"
)

// inspect examines the file system on a device without changing it: it is mounted read-only,
// without recovery, and at no path. A kernel that ends this process ends the mount too.
// subvolume is the user's choice, if there is one: then only that is examined, and one
// that does not exist counts as empty.
func inspect(ctx context.Context, node, kind string, subvolume []string) (findings, error) {
	if kind != "btrfs" {
		subvolume = nil
	}
	g, err := inspectOnce(node, kind, subvolume)
	if len(subvolume) > 0 && errors.Is(err, unix.ENOENT) {
		g, err = findings{}, nil
	}
	// The kernel releases a file system a moment after it is closed, and it cannot be
	// mounted for writing before.
	return g, errors.Join(err, idle(ctx, node))
}

func inspectOnce(node, kind string, subvolume []string) (findings, error) {
	var g findings
	err := withMounted(node, kind, subvolume, func(dir *os.File) (err error) {
		g.fits = isRoot(dir)
		g.sign = g.fits || hasSign(dir)
		g.blank, err = isBlank(dir)
		return err
	})
	if err != nil || g.fits || kind != "btrfs" || len(subvolume) > 0 {
		return g, err
	}
	err = withMounted(node, kind, []string{"subvolid=5"}, func(top *os.File) error {
		name, err := rootSubvolume(top)
		switch {
		case errors.Is(err, errSeveral):
			g = findings{fits: true, sign: true, several: err}
			return nil
		case name != "":
			g = findings{fits: true, sign: true, options: []string{"subvol=" + name}}
		case !g.sign:
			g.sign = hasSignBelow(top)
		}
		return err
	})
	return g, err
}

// quiet are the options with which a read-only mount replays no journal, and which allow
// a file system with the same UUID to be mounted.
var quiet = map[string][]string{
	"ext4":  {"noload"},
	"xfs":   {"norecovery", "nouuid"},
	"btrfs": {"rescue=nologreplay"},
	"f2fs":  {"norecovery"},
}

// withMounted calls do with the file system mounted.
func withMounted(node, kind string, options []string, see func(root *os.File) error) error {
	root, err := openMount(node, kind, slices.Concat(quiet[kind], options))
	if err != nil {
		return fmt.Errorf("cannot look into the %s of %s: %w", kind, node, err)
	}
	defer root.Close()
	return see(root)
}

// openMount mounts without a mount point (Linux 5.2): the mount lasts as long as the file
// is open.
func openMount(node, kind string, options []string) (*os.File, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", node)
	for _, o := range append([]string{"ro"}, options...) {
		if err != nil {
			break
		}
		if name, value, ok := strings.Cut(o, "="); ok {
			err = unix.FsconfigSetString(fs, name, value)
		} else {
			err = unix.FsconfigSetFlag(fs, name)
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return nil, withLog(os.NewSyscallError("fsconfig", err), fs)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC,
		unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	return os.NewFile(uintptr(fd), node), nil
}

// withLog adds the kernel's messages about the mount to an error.
func withLog(err error, fs int) error {
	buf := make([]byte, 1024)
	if n, readErr := unix.Read(fs, buf); readErr == nil && n > 2 {
		return fmt.Errorf("%w: %s", err, buf[2:n])
	}
	return err
}

// idle waits a moment until no mount holds the device. If one holds it for longer, the
// next mount returns the error.
func idle(ctx context.Context, node string) error {
	for pause := time.Millisecond; pause < 2*time.Second; pause *= 2 {
		if err := exclusive.Check(node); !errors.Is(err, unix.EBUSY) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// openBelow opens a path below a directory; no link leads out of it.
func openBelow(dir *os.File, path string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), path, &how)
		if err == nil {
			return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), path)), nil
		}
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// isRoot reports whether a directory is that of a root file system. A link counts without
// regard to its target: an os-release is often one.
func isRoot(dir *os.File) bool {
	for _, path := range []string{"etc/os-release", "etc/fstab"} {
		if f, err := openBelow(dir, path, unix.O_PATH|unix.O_NOFOLLOW); err == nil {
			f.Close()
			return true
		}
	}
	return false
}

// signs are directories that only a root has at its top. A file system for /usr has the
// second kind too, beside a share.
var signs, signsOfUsr = []string{"etc", "usr", "ostree", "nix"}, []string{"bin", "sbin"}

// signsText names the signs of a root for a message.
const signsText = "no /etc, /usr, /bin or /sbin"

// hasSign reports whether there is any sign that a directory is that of a root file
// system.
func hasSign(dir *os.File) bool {
	has := func(name string) bool { return isDirectory(dir, name) }
	return slices.ContainsFunc(signs, has) || slices.ContainsFunc(signsOfUsr, has) && !has("share")
}

// hasSignBelow is hasSign for any subvolume at the top of a btrfs.
func hasSignBelow(top *os.File) bool {
	names, _ := entries(top)
	return slices.ContainsFunc(names, func(name string) bool {
		dir, err := openBelow(top, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if err != nil {
			return false
		}
		defer dir.Close()
		return isSubvolume(dir) && hasSign(dir)
	})
}

// isDirectory reports whether a name leads to a directory within a file system.
func isDirectory(dir *os.File, name string) bool {
	f, err := openBelow(dir, name, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// entries returns the names in a directory, up to a limit that no real one reaches.
func entries(dir *os.File) ([]string, error) {
	const most = 4096
	f, err := openBelow(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(most)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.Sort(names)
	return names, err
}

func isBlank(dir *os.File) (bool, error) {
	names, err := entries(dir)
	return len(names) == 0 || slices.Equal(names, []string{"lost+found"}), err
}

// subvolumeInode is the inode number of the root of every btrfs subvolume.
const subvolumeInode = 256

// rootSubvolume returns the only subvolume at the top of a btrfs that holds a root, or
// the one of several whose own fstab names it as the root. It is empty if there is none.
func rootSubvolume(top *os.File) (string, error) {
	names, err := entries(top)
	if err != nil {
		return "", err
	}
	var fit, inFstab []string
	for _, name := range names {
		root, says := asSubvolume(top, name)
		if root {
			fit = append(fit, name)
		}
		if says {
			inFstab = append(inFstab, name)
		}
	}
	switch {
	case len(fit) == 0:
		return "", nil
	case len(fit) == 1:
		return fit[0], nil
	case len(inFstab) == 1:
		return inFstab[0], nil
	default:
		return "", fmt.Errorf("%w: the btrfs of %s has them in the subvolumes %s; say which by mount_options, such as %q",
			errSeveral, top.Name(), strings.Join(fit, ", "), "subvol="+fit[0])
	}
}

// errSeveral is wrapped if several subvolumes can be the root.
var errSeveral = errors.New("there is more than one root file system")

// asSubvolume reports whether an entry is a subvolume that holds a root, and whether the
// fstab there names this subvolume as the root.
func asSubvolume(top *os.File, name string) (root, says bool) {
	if strings.ContainsAny(name, "\",\\ \t\n") {
		return false, false // it would be more than a name in a list of options
	}
	dir, err := openBelow(top, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return false, false
	}
	defer dir.Close()
	if !isSubvolume(dir) || !isRoot(dir) {
		return false, false
	}
	for _, e := range ParseFstab(smallFile(dir, "etc/fstab")) {
		if subvolume, ok := e.option("subvol"); ok && e.Target == "/" {
			says = strings.Trim(subvolume, "/") == name
		}
	}
	return true, says
}

// isSubvolume reports whether a directory of a btrfs is the top of a subvolume.
func isSubvolume(dir *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(dir.Fd()), &st) == nil && st.Ino == subvolumeInode
}

// smallFile returns the content of a small regular file; it is empty if the file cannot
// be read.
func smallFile(dir *os.File, path string) string {
	const most = 1 << 20
	f, err := openBelow(dir, path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	raw, _ := io.ReadAll(io.LimitReader(f, most))
	return string(raw)
}
