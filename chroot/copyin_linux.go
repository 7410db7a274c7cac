package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// CheckFile returns an error if a file of the host cannot be copied in.
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
	// resolvConf has the addresses of name servers; resolv.conf(5).
	resolvConf = "/etc/resolv.conf"
	// stubAddress is the address of systemd-resolved on a host, and resolvedConf has the
	// servers that it asks; systemd-resolved.service(8).
	stubAddress  = "127.0.0.53"
	resolvedConf = "/run/systemd/resolve/resolv.conf"
)

// sourceOf returns the file to copy in for one of the host. The address of the host's
// systemd-resolved is not copied into an image, for it would not work there.
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

// onlyStub reports whether systemd-resolved's stub is the only name server.
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

// CopyIn copies a file of the host to the same path inside, until PutBack. An existing file
// or link is set aside under another name and gets all its attributes back. A link is never
// written through, so that one into a missing directory, such as that of systemd-resolved
// in /run, does no harm.
func (m *MountedRoot) CopyIn(ctx context.Context, path string) error {
	src, mode, err := openFile(path)
	if err == nil {
		defer src.Close()
		err = m.put(ctx, path, src, mode)
	}
	if err != nil {
		return fmt.Errorf("cannot copy %s into %s: %w", path, m.path, err)
	}
	return nil
}

const (
	// policyFile is run by Debian's packages before they start a service. The policy is to
	// refuse: 101 is "action forbidden by policy".
	// Source: /usr/share/doc/init-system-helpers/README.policy-rc.d.gz.
	policyFile = "/usr/sbin/policy-rc.d"
	policy     = "#!/bin/sh\nexit 101\n"
	// offline makes systemctl change files and start nothing; systemd's docs/ENVIRONMENT.md.
	offline = "SYSTEMD_OFFLINE=1"
)

// BlockServices keeps packages and commands from starting services, until PutBack.
func (m *MountedRoot) BlockServices(ctx context.Context) error {
	m.env = append(m.env, offline)
	if err := m.put(ctx, policyFile, strings.NewReader(policy), 0o755); err != nil {
		return fmt.Errorf("cannot block services in %s: %w", m.path, err)
	}
	return nil
}

// supplyNames gives commands name servers again after a package, such as
// systemd-resolved, has replaced the copied /etc/resolv.conf by a link to a file that
// only a running daemon creates. It writes the file that the link leads to, until PutBack;
// the link stays. It does nothing if /etc/resolv.conf was not copied in, or is not such a
// link, or if no file can be made where it leads.
func (m *MountedRoot) supplyNames(ctx context.Context) error {
	m.namesMu.Lock()
	defer m.namesMu.Unlock()
	if !m.overrides.Has(resolvConf) {
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

// maxLinks is the number of links that the kernel follows in one path; path_resolution(7).
const maxLinks = 40

// missingTarget returns the path of the missing file that a link leads to, or an empty
// string if the path is not a link or leads somewhere.
func (m *MountedRoot) missingTarget(name string) (string, error) {
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
	for links := range maxLinks {
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

// put writes a file inside, until PutBack.
func (m *MountedRoot) put(ctx context.Context, path string, src io.Reader, mode os.FileMode) error {
	return m.inside(func(in *rootfs.Root) error { return m.overrides.Put(ctx, in, path, src, mode) })
}

// PutBack removes the files of CopyIn and BlockServices and restores those that were there
// before. A file that was changed since, removed or given to another user stays as it is,
// because a provisioner wants it so.
func (m *MountedRoot) PutBack(context.Context) error {
	if err := m.overrides.PutBack(m.path, m.open); err != nil {
		return err
	}
	m.env = nil
	return nil
}
