package chroot_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// onDisk returns a root on ext4, which has features that a tmpfs lacks.
func onDisk(t *testing.T) *chroot.MountedRoot {
	t.Helper()
	dir := stage(t)
	m := mount(t, start(t, nil), chroot.MountSpec{Device: loop(t, disk(t, 64, "mkfs.ext4", "-q")), Path: dir + "/root"})
	furnish(t, m.Path())
	return m
}

// everything returns all attributes of a file.
func everything(t *testing.T, path string) string {
	t.Helper()
	st := stat(t, path)
	value := make([]byte, 64)
	n, _ := unix.Lgetxattr(path, "user.mine", value)
	return fmt.Sprintf("inode %d mode %o owner %d:%d size %d times %v %v xattr %q links %d",
		st.Ino, st.Mode, st.Uid, st.Gid, st.Size, st.Atim, st.Mtim, value[:max(n, 0)], st.Nlink)
}

// TestPutBackExactly compares to the last attribute.
func TestPutBackExactly(t *testing.T) {
	src := testdir.New(t)
	for _, name := range []string{"file", "link"} {
		write(t, filepath.Join(src, name), "of the host", 0o644)
	}
	m := onDisk(t)
	file, symlink := m.Path()+src+"/file", m.Path()+src+"/link"
	write(t, file, "of the image", 0o4750)
	link(t, "../../run/nowhere/stub-resolv.conf", symlink)
	if err := os.Link(file, file+".twin"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, symlink} {
		if err := os.Lchown(path, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Setxattr(file, "user.mine", []byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	// mistaken for a saved file of an earlier build that was killed
	write(t, filepath.Dir(file)+"/.file.packer-chroot-0", "older", 0o600)
	for _, path := range []string{file, symlink} {
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{{Sec: 9, Nsec: 8}, {Sec: 7, Nsec: 6}}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
	before := []string{everything(t, file), everything(t, symlink)}
	for _, name := range []string{"file", "link"} {
		if err := m.CopyIn(t.Context(), filepath.Join(src, name)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, m.Path()+src+"/"+name); got != "of the host" {
			t.Errorf("while building %s holds %q", name, got)
		}
	}
	if err := m.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, []string{everything(t, file), everything(t, symlink)}); diff != "" {
		t.Errorf("after building (-want +got):\n%s", diff)
	}
	if to, err := os.Readlink(symlink); err != nil || to != "../../run/nowhere/stub-resolv.conf" {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if exists(m.Path() + "/run/nowhere") {
		t.Error("the link was written through")
	}
}

// TestPutBackKeepsWhatChanged checks that changed attributes are kept as well as changed
// content.
func TestPutBackKeepsWhatChanged(t *testing.T) {
	for name, change := range map[string]string{
		"mode": "chmod 600", "owner": "chown 5:6", "a directory": "rm %s; busybox mkdir", "a pipe": "rm %s; busybox mkfifo",
	} {
		t.Run(name, func(t *testing.T) {
			src := testdir.New(t) + "/file"
			write(t, src, "of the host", 0o644)
			m := tiny(t, nil)
			write(t, m.Path()+src, "of the image", 0o644)
			if err := m.CopyIn(t.Context(), src); err != nil {
				t.Fatal(err)
			}
			sh(t, m, "busybox "+strings.ReplaceAll(change, "%s", src)+" "+src)
			want := stat(t, m.Path()+src)
			if err := m.PutBack(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := stat(t, m.Path()+src); got.Ino != want.Ino || got.Mode != want.Mode || got.Uid != want.Uid {
				t.Errorf("%o of %d, want %o of %d", got.Mode, got.Uid, want.Mode, want.Uid)
			}
			if names, err := os.ReadDir(filepath.Dir(m.Path() + src)); err != nil || len(names) != 1 {
				t.Errorf("left %v, %v", names, err)
			}
		})
	}
}

// TestCopyInRemovesItsDirectories checks that created directories are removed unless they
// contain other files now.
func TestCopyInRemovesItsDirectories(t *testing.T) {
	dir := testdir.New(t)
	write(t, dir+"/a/b/file", "x", 0o644)
	for used, want := range map[string]bool{"": false, dir + "/a/mine": true} {
		m := tiny(t, nil)
		if err := m.CopyIn(t.Context(), dir+"/a/b/file"); err != nil {
			t.Fatal(err)
		}
		if used != "" {
			write(t, m.Path()+used, "", 0o644)
		}
		if err := m.PutBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if exists(m.Path()+dir+"/a") != want || exists(m.Path()+dir+"/a/b") {
			t.Errorf("with %q: %s is there: %t", used, dir, !want)
		}
	}
}

// TestResolvConfOfAStub runs itself in a mount namespace with its own /etc/resolv.conf.
func TestResolvConfOfAStub(t *testing.T) {
	testroot.Need(t, "mounting")
	const inner = "CHROOT_TEST_RESOLV_CONF"
	if os.Getenv(inner) != "" {
		m := tiny(t, nil)
		link(t, "../run/systemd/resolve/stub-resolv.conf", m.Path()+"/etc/resolv.conf")
		if err := m.CopyIn(t.Context(), "/etc/resolv.conf"); err != nil {
			t.Fatal(err)
		}
		t.Logf("<%s>", strings.TrimSpace(read(t, m.Path()+"/etc/resolv.conf")))
		if err := m.PutBack(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	tests := []struct{ name, conf, upstream, want string }{
		{"the stub alone", "nameserver 127.0.0.53\noptions edns0", "nameserver 192.0.2.1", "nameserver 192.0.2.1"},
		{"the stub and another", "nameserver 127.0.0.53\nnameserver 192.0.2.2", "nameserver 192.0.2.1", "nameserver 127.0.0.53\nnameserver 192.0.2.2"},
		{"another", "# not 127.0.0.53\nnameserver 192.0.2.2", "nameserver 192.0.2.1", "# not 127.0.0.53\nnameserver 192.0.2.2"},
		{"the stub of somebody else", "nameserver 127.0.0.53", "", "nameserver 127.0.0.53"},
		{"none", "search example.org", "nameserver 192.0.2.1", "search example.org"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := testdir.New(t)
			write(t, dir+"/conf", test.conf+"\n", 0o644)
			script := "mount --bind " + dir + "/conf /etc/resolv.conf && mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/resolve"
			if test.upstream != "" {
				script += " && echo '" + test.upstream + "' > /run/systemd/resolve/resolv.conf"
			}
			cmd := exec.Command("unshare", "--mount", "sh", "-c", script+` && exec "$0" -test.run '^TestResolvConfOfAStub$' -test.v`, "/proc/self/exe")
			cmd.Args[len(cmd.Args)-1] = os.Args[0]
			cmd.Env = append(os.Environ(), inner+"=yes")
			out, err := cmd.CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte("<"+strings.ReplaceAll(test.want, "\n", "\n        ")+">")) {
				t.Errorf("%v, want %q in\n%s", err, test.want, out)
			}
		})
	}
}

// TestBlockServices covers the state before, the changes of provisioners, and the state
// afterwards.
func TestBlockServices(t *testing.T) {
	const file = "/usr/sbin/policy-rc.d"
	recipe := "echo '#!/bin/sh' > " + file + "; echo 'exit 101' >> " + file + "; busybox chmod a+x " + file
	for _, test := range []struct{ name, before, while, after string }{
		{name: "nothing was there"},
		{name: "the image's own", before: "exit 0", after: "exit 0"},
		{name: "the recipe, and its end", while: recipe + "; busybox rm -f " + file},
		{name: "the recipe without an end, over the image's own", before: "exit 0", while: recipe, after: "exit 0"},
		{name: "a provisioner's own", before: "exit 0", while: "echo 'exit 104' > " + file, after: "exit 104\n"},
	} {
		for _, remote := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, remote %t", test.name, remote), func(t *testing.T) {
				var m interface {
					chroot.Root
					BlockServices(context.Context) error
					PutBack(context.Context) error
				} = tiny(t, nil)
				if remote {
					m = far(t, nil)
				}
				if test.before != "" {
					write(t, m.Path()+file, test.before, 0o755)
				}
				if err := m.BlockServices(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := sh(t, m, "status=0; "+file+" || status=$?; echo $status $SYSTEMD_OFFLINE"); got != "101 1\n" {
					t.Errorf("services are not blocked: %q", got)
				}
				if test.while != "" {
					sh(t, m, test.while)
				}
				if err := m.PutBack(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got, want := exists(m.Path()+file), test.after != ""; got != want {
					t.Fatalf("it is there afterwards: %t, want %t", got, want)
				}
				if test.after != "" && read(t, m.Path()+file) != test.after {
					t.Errorf("it holds %q, want %q", read(t, m.Path()+file), test.after)
				}
				if got := sh(t, m, "echo [$SYSTEMD_OFFLINE]"); got != "[]\n" {
					t.Errorf("afterwards SYSTEMD_OFFLINE is %q", got)
				}
			})
		}
	}
}

// attributes are those that chattr(1) changes, as far as they lock a file.
func attributes(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		t.Fatal(err)
	}
	return st.Attributes & (unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND)
}

// chattr changes them.
func chattr(t *testing.T, change, path string) {
	t.Helper()
	if out, err := exec.Command("chattr", change, path).CombinedOutput(); err != nil {
		t.Fatalf("chattr %s %s: %v\n%s", change, path, err, out)
	}
}

// TestCopyInOverALockedFile checks that CopyIn sets aside an immutable file, such as a
// resolv.conf that an image protects from network managers by chattr +i, and that it is
// restored with the flag.
func TestCopyInOverALockedFile(t *testing.T) {
	for change, want := range map[string]uint64{"+i": unix.STATX_ATTR_IMMUTABLE, "+a": unix.STATX_ATTR_APPEND} {
		t.Run(change, func(t *testing.T) {
			src := testdir.New(t) + "/resolv.conf"
			write(t, src, "of the host", 0o644)
			m := onDisk(t)
			inside := m.Path() + src
			write(t, inside, "of the image", 0o640)
			before := everything(t, inside)
			chattr(t, change, inside)
			if err := m.CopyIn(t.Context(), src); err != nil {
				t.Fatal(err)
			}
			if got := read(t, inside); got != "of the host" || attributes(t, inside) != 0 {
				t.Errorf("while building it holds %q, locked %x", got, attributes(t, inside))
			}
			if err := m.PutBack(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := everything(t, inside); got != before || attributes(t, inside) != want {
				t.Errorf("after building: %s, locked %x; want %s", got, attributes(t, inside), before)
			}
		})
	}
}

// TestPutBackKeepsALockedCopy checks that a copy that was made immutable stays, because this
// is intended.
func TestPutBackKeepsALockedCopy(t *testing.T) {
	src := testdir.New(t) + "/resolv.conf"
	write(t, src, "of the host", 0o644)
	m := onDisk(t)
	inside := m.Path() + src
	write(t, inside, "of the image", 0o644)
	if err := m.CopyIn(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	chattr(t, "+i", inside)
	if err := m.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := read(t, inside); got != "of the host" || attributes(t, inside) != unix.STATX_ATTR_IMMUTABLE {
		t.Errorf("after building it holds %q, locked %x", got, attributes(t, inside))
	}
	if names, err := os.ReadDir(filepath.Dir(inside)); err != nil || len(names) != 1 {
		t.Errorf("left %v, %v", names, err)
	}
}

// TestCopyInIntoALockedDirectory checks that the error names the obstacle.
func TestCopyInIntoALockedDirectory(t *testing.T) {
	src := testdir.New(t) + "/resolv.conf"
	write(t, src, "of the host", 0o644)
	m := onDisk(t)
	inside := m.Path() + src
	write(t, inside, "of the image", 0o644)
	chattr(t, "+i", filepath.Dir(inside))
	says(t, m.CopyIn(t.Context(), src), src, "not permitted", "lsattr -d")
	if got := read(t, inside); got != "of the image" {
		t.Errorf("it holds %q", got)
	}
}
