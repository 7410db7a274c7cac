package mountpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// Lock locks a directory to mount on, until it is closed: of two builds that are about to
// mount on it, one fails. The file's name is the path without links.
func Lock(path string) (*os.File, error) {
	plain, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	point, err := os.OpenFile(plain, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(point.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use: another build is about to mount on it (%w)", path, err), point.Close())
	}
	if err := stillEmpty(point); err != nil {
		return nil, errors.Join(err, point.Close())
	}
	return point, nil
}

// stillEmpty returns an error if something was mounted on a directory, or it was replaced,
// before it was locked.
func stillEmpty(point *os.File) error {
	locked, err := point.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(point.Name())
	if err != nil {
		return err
	}
	if !os.SameFile(locked, now) {
		return fmt.Errorf("%s is in use: another build has just mounted on it, or left it", point.Name())
	}
	return unmounted(point.Name())
}

// unmounted returns an error if something is mounted on a path.
func unmounted(path string) error {
	mounted, err := mountinfo.Mounted(path)
	if err == nil && mounted {
		err = fmt.Errorf("%s is in use: something is mounted on it", path)
	}
	return err
}

// FirstEntry returns the name of an entry of a directory; it is empty if there is none.
func FirstEntry(path string) string {
	dir, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(1)
	return strings.Join(names, "")
}

// hostDirs are the directories that a host needs while a build runs, and that nothing may
// be mounted over.
var hostDirs = []string{
	"/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/tmp", "/usr",
	"/usr/bin", "/usr/lib", "/usr/sbin", "/var", "/var/lib", "/var/tmp",
}

// Check returns an error if a root cannot be mounted on a path: it must be missing, or a
// directory that nothing is mounted on.
func Check(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
		return fmt.Errorf("%q is not an absolute path of a directory to mount on", path)
	}
	if slices.Contains(hostDirs, filepath.Clean(path)) {
		return fmt.Errorf("%s is a directory of the host's system: mount on another one, such as /mnt/chroot", path)
	}
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is in use: it is not a directory", path)
	}
	return unmounted(path)
}

// CheckParents returns an error if a user other than root and the building one could
// replace a mount point, or one of its parents. Commands run as root on that path as long
// as the build lasts.
func CheckParents(path string) error {
	if err := safedir.Fixed(path); err != nil {
		return fmt.Errorf("%w; mount on a path that only root, or the user who builds, can change", err)
	}
	return nil
}
