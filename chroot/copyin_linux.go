package chroot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// copied is a file that was copied in for the time of the build.
type copied struct {
	dir, name string
	// saved is the name in dir of what was there before; empty if nothing was.
	saved string
	// locked are the attributes that kept it from being renamed; see locks.
	locked int
	// dirs are the directories that were made for it, outermost first.
	dirs []string
	// sum is of what was copied in.
	sum [sha256.Size]byte
	// mode, uid and gid are those of the copy.
	mode, uid, gid uint32
}

// CheckFile fails when a file of the host cannot be copied in.
func CheckFile(path string) error {
	f, _, err := openFile(path)
	if err != nil {
		return err
	}
	return f.Close()
}

// openFile opens a regular file of the host.
func openFile(path string) (*os.File, os.FileMode, error) {
	path = sourceOf(path)
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is %s, not a file", path, rootfs.KindOf(info.Mode()))
	}
	f, err := os.Open(path)
	return f, info.Mode(), err
}

const (
	// resolvConf says where names are resolved; resolv.conf(5).
	resolvConf = "/etc/resolv.conf"
	// stubAddress is where systemd-resolved answers on a host, and resolvedConf names
	// the servers that it asks; systemd-resolved.service(8).
	stubAddress  = "127.0.0.53"
	resolvedConf = "/run/systemd/resolve/resolv.conf"
)

// sourceOf is the file to copy in for one of the host. An address that only works
// where the host's systemd-resolved answers is not carried into an image.
func sourceOf(path string) string {
	if path != resolvConf {
		return path
	}
	raw, err := os.ReadFile(path)
	if err != nil || !onlyStub(string(raw)) {
		return path
	}
	if info, err := os.Stat(resolvedConf); err != nil || !info.Mode().IsRegular() {
		return path
	}
	return resolvedConf
}

// onlyStub says whether systemd-resolved's stub is the only name server.
func onlyStub(conf string) bool {
	found := false
	for line := range strings.Lines(conf) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "nameserver" {
			if words[1] != stubAddress {
				return false
			}
			found = true
		}
	}
	return found
}

// CopyIn copies a file of the host to the same path inside, until PutBack. What is
// there, be it a file or a link, is set aside under another name, so that it comes
// back as it was to the last attribute; a link is never written through, so that
// one into a directory that is missing, such as that of systemd-resolved in /run,
// is in nobody's way.
func (m *Mounted) CopyIn(ctx context.Context, path string) error {
	src, mode, err := openFile(path)
	if err == nil {
		defer src.Close()
		err = m.putAlone(ctx, path, src, mode)
	}
	if err != nil {
		return fmt.Errorf("cannot copy %s into %s: %w", path, m.path, err)
	}
	return nil
}

const (
	// policyFile is asked by Debian's packages before they start a service, and
	// policy says no: 101 is "action forbidden by policy".
	// Source: /usr/share/doc/init-system-helpers/README.policy-rc.d.gz.
	policyFile = "/usr/sbin/policy-rc.d"
	policy     = "#!/bin/sh\nexit 101\n"
	// offline has systemctl change files alone and start nothing; systemd's
	// docs/ENVIRONMENT.md.
	offline = "SYSTEMD_OFFLINE=1"
)

// BlockServices keeps packages and commands from starting services, until PutBack.
func (m *Mounted) BlockServices(ctx context.Context) error {
	m.env = append(m.env, offline)
	if err := m.putAlone(ctx, policyFile, strings.NewReader(policy), 0o755); err != nil {
		return fmt.Errorf("cannot block services in %s: %w", m.path, err)
	}
	return nil
}

// supplyNames gives commands name servers again after a package, such as
// systemd-resolved, has replaced the copied /etc/resolv.conf by a link to a file that
// only a running daemon makes. The file is written where the link leads, until PutBack;
// the link stays. It does nothing if /etc/resolv.conf was not copied in, or is not such a
// link, or if no file can be made where it leads.
func (m *Mounted) supplyNames(ctx context.Context) error {
	m.copying.Lock()
	defer m.copying.Unlock()
	if !slices.ContainsFunc(m.copies, func(c copied) bool { return c.dir+c.name == resolvConf }) {
		return nil
	}
	target, err := m.missingTarget(resolvConf)
	if err != nil || target == "" {
		return err
	}
	src, mode, err := openFile(resolvConf)
	if err != nil {
		return fmt.Errorf("cannot copy %s into %s: %w", resolvConf, m.path, err)
	}
	defer src.Close()
	if err := m.put(ctx, target, src, mode); err != nil {
		m.keeper.log("no name servers in %s: %s leads to %s: %v", m.path, resolvConf, target, err)
	}
	return nil
}

// mostLinks is how many links the kernel follows in one path; path_resolution(7).
const mostLinks = 40

// missingTarget returns the path of the missing file that a link leads to, or an empty
// string if the path is not a link or leads somewhere.
func (m *Mounted) missingTarget(name string) (string, error) {
	in, err := m.open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	f, err := in.Open(name, unix.O_PATH, 0)
	if err == nil {
		return "", f.Close()
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", rootfs.IgnoreDangling(err)
	}
	for links := range mostLinks {
		target, err := in.ReadLink(name)
		if err != nil { // the end of the chain
			if links == 0 {
				return "", nil
			}
			return name, nil
		}
		if !path.IsAbs(target) {
			target = path.Dir(name) + "/" + target
		}
		name = target
	}
	return "", nil
}

// putAlone is put for one caller at a time.
func (m *Mounted) putAlone(ctx context.Context, path string, src io.Reader, mode os.FileMode) error {
	m.copying.Lock()
	defer m.copying.Unlock()
	return m.put(ctx, path, src, mode)
}

// put writes a file inside, until PutBack. The caller holds m.copying.
func (m *Mounted) put(ctx context.Context, path string, src io.Reader, mode os.FileMode) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.Close()
	c := copied{}
	c.dir, c.name = rootfs.Split(path)
	if c.name == "" {
		return fmt.Errorf("%s is the name of a directory, not of a file", path)
	}
	err = in.MkdirAll(c.dir)
	c.dirs = in.Created
	if err != nil {
		return errors.Join(err, in.RemoveDirs(c.dirs))
	}
	dir, err := in.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := c.setAside(dir); err != nil {
		return err
	}
	m.copies = append(m.copies, c)
	return m.copies[len(m.copies)-1].write(ctx, dir, src, mode)
}

// setAside renames what is there to a name that is free.
func (c *copied) setAside(dir *os.File) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), c.name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "stat", Path: dir.Name() + c.name, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("%s is a directory there", dir.Name()+c.name)
	}
	err = c.save(dir)
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	if c.locked, err = rootfs.ClearImmutable(dir, c.name); err == nil {
		if err = c.save(dir); err != nil {
			err = errors.Join(err, rootfs.SetImmutable(dir, c.name, c.locked))
		}
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w (an attribute of the directory may forbid it: lsattr -d %s)", err, dir.Name())
	}
	return err
}

func (c *copied) save(dir *os.File) (err error) {
	const tries = 1000
	for n := range tries {
		saved := fmt.Sprintf(".%s.packer-chroot-%d", c.name, n)
		err = rootfs.Rename(dir, c.name, saved, unix.RENAME_NOREPLACE)
		if err == nil {
			c.saved = saved
		}
		if !errors.Is(err, unix.EEXIST) {
			break
		}
	}
	return err
}

// write makes the file, and notes what it is.
func (c *copied) write(ctx context.Context, dir *os.File, src io.Reader, mode os.FileMode) error {
	dst, err := rootfs.OpenAt(dir, c.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "create", Path: dir.Name() + c.name, Err: err}
	}
	sum := sha256.New()
	err = transfer.Copy(ctx, io.MultiWriter(dst, sum), src)
	sum.Sum(c.sum[:0])
	err = errors.Join(err, dst.Chmod(mode))
	var st unix.Stat_t
	err = errors.Join(err, unix.Fstat(int(dst.Fd()), &st), dst.Close())
	c.mode, c.uid, c.gid = st.Mode, st.Uid, st.Gid
	return err
}

// PutBack removes what CopyIn and BlockServices put there and puts back what was
// there before. A file that was changed since, removed or given to somebody else,
// is somebody's wish, and stays so.
func (m *Mounted) PutBack(context.Context) error {
	m.copying.Lock()
	defer m.copying.Unlock()
	for last := len(m.copies) - 1; last >= 0; last-- {
		c := m.copies[last]
		if err := m.putBack(c); err != nil {
			return fmt.Errorf("cannot put back %s in %s: %w", c.dir+c.name, m.path, err)
		}
		m.copies = m.copies[:last]
	}
	m.env = nil
	return nil
}

func (m *Mounted) putBack(c copied) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.Close()
	dir, err := in.Open(c.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return rootfs.IgnoreMissing(rootfs.IgnoreDangling(err)) // removed with its directory
	}
	defer dir.Close()
	same, err := c.unchanged(dir)
	if err != nil {
		return err
	}
	if err := c.restore(dir, same); err != nil {
		return err
	}
	return in.RemoveDirs(c.dirs)
}

// restore puts back what was saved if the copy is still the same.
func (c *copied) restore(dir *os.File, same bool) error {
	switch {
	case same && c.saved != "":
		err := rootfs.Rename(dir, c.saved, c.name, 0)
		if errors.Is(err, unix.ENOENT) { // what was saved was removed inside
			return rootfs.Remove(dir, c.name)
		}
		return errors.Join(err, rootfs.SetImmutable(dir, c.name, c.locked))
	case same:
		return rootfs.Remove(dir, c.name)
	case c.saved != "":
		return rootfs.Remove(dir, c.saved)
	default:
		return nil
	}
}

// unchanged says whether the file is still what was copied in.
func (c *copied) unchanged(dir *os.File) (bool, error) {
	found, st, err := rootfs.Entry{Dir: dir, Name: c.name, Path: c.name}.OpenPath()
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: dir.Name() + c.name, Err: err}
	}
	defer found.Close()
	if st.Mode != c.mode || st.Uid != c.uid || st.Gid != c.gid { // no file any more, for one
		return false, nil
	}
	f, err := rootfs.Reopen(found, unix.O_RDONLY)
	if err != nil {
		return false, &os.PathError{Op: "open", Path: dir.Name() + c.name, Err: err}
	}
	defer f.Close()
	if rootfs.Immutable(f) != 0 {
		return false, nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, err
	}
	return [sha256.Size]byte(sum.Sum(nil)) == c.sum, nil
}
