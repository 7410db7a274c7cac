package chroot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// mallory is another user of the host. The user need not exist.
const mallory = 45001

// shared creates a world-writable directory.
func shared(b *harness.Box, name string, mode os.FileMode) string {
	b.Helper()
	path := filepath.Join(b.Dir, name)
	b.Must(errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, mode)))
	return path
}

// foreignLocks creates a directory of another user, with links in place of the reservations.
func foreignLocks(b *harness.Box, path, target string) {
	b.Helper()
	b.Must(os.Mkdir(path, 0o755))
	for letter := 'f'; letter <= 'p'; letter++ {
		b.Must(os.Symlink(filepath.Join(target, string(letter)), filepath.Join(path, "device-"+string(letter))))
	}
	b.Must(os.Chown(path, mallory, mallory))
}

// TestDirectoriesOfOtherUsers uses directories that another user created in a world-writable directory. A build must
// fail before it creates anything, and name the directory.
func TestDirectoriesOfOtherUsers(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		locks, open, target := shared(b, "sticky", os.ModeSticky|0o777), shared(b, "open", 0o777), shared(b, "target", 0o700)
		foreignLocks(b, filepath.Join(locks, "theirs"), target)
		b.Must(os.Symlink(target, filepath.Join(locks, "link")))
		b.Must(os.Lchown(filepath.Join(locks, "link"), mallory, mallory))
		before := b.Inventory()
		clean := b.Env
		for _, c := range []struct {
			name    string
			options map[string]any
			env     string
			says    []string
		}{
			{name: "the lock directory", env: "PACKER_CHROOT_LOCK_DIR=" + locks + "/theirs", says: []string{"PACKER_CHROOT_LOCK_DIR", locks + "/theirs", "belongs to user 45001"}},
			{name: "a link for the lock directory", env: "PACKER_CHROOT_LOCK_DIR=" + locks + "/link", says: []string{locks + "/link", "belongs to user 45001"}},
			{name: "an open lock directory", env: "PACKER_CHROOT_LOCK_DIR=" + open, says: []string{open, "0777"}},
			{name: "the state directory", env: "PACKER_CHROOT_STATE_DIR=" + locks + "/theirs", says: []string{locks + "/theirs", "belongs to user 45001"}},
			{name: "an open state directory", env: "PACKER_CHROOT_STATE_DIR=" + open, says: []string{open, "0777"}},
			{name: "the mount path", options: harness.O{"mount_path": open + "/{{.Device}}"}, says: []string{"mount_path", open, "0777"}},
			{name: "the mount path's parent", options: harness.O{"mount_path": locks + "/theirs/mnt"}, says: []string{"mount_path", locks + "/theirs", "belongs to user 45001"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := b.In(t)
				if c.env != "" {
					b.Env = append(slices.Clone(clean), c.env)
				}
				b.Calls()
				b.Fails(b.Template(f.Basic(c.options), harness.Shell("true")), c.says...)
				for _, call := range b.Calls() {
					if strings.HasPrefix(call.Action, "Create") && call.Status < 300 {
						t.Errorf("%s was made before the error", call.Action)
					}
				}
				for _, dir := range []string{target, open} {
					if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
						t.Errorf("%s holds %v, %v", dir, made, err)
					}
				}
				b.Env = clean
				b.Unchanged(before)
			})
		}
	})
}

// TestLockDirIsShared checks that builds of root and of a user with sudo share a lock directory, which the first build
// creates in a world-writable directory.
func TestLockDirIsShared(t *testing.T) {
	harness.NeedRoot(t)
	harness.Sudoers(t)
	b := harness.New(t)
	f := harness.Flavors[0]
	locks := filepath.Join(shared(b, "lock for all", os.ModeSticky|0o777), "packer-chroot")
	b.Env = append(b.Env, "PACKER_CHROOT_LOCK_DIR="+locks)
	out, err := b.AsNobody("build", "-color=false", b.Template(f.Basic(harness.O{"command_wrapper": "sudo {{.Command}}", "PREFIX_name": "by nobody"}), harness.Shell("true"))).CombinedOutput()
	if err != nil {
		t.Fatalf("packer build: %v\n%s", err, out)
	}
	b.Env = append(b.Env, "PACKER_CHROOT_STATE_DIR="+filepath.Join(b.Dir, "state of root"))
	b.Build(b.Template(f.Basic(harness.O{"PREFIX_name": "by root"}), harness.Shell("true")))
	if left, err := os.ReadDir(locks); err != nil || len(left) > 0 {
		t.Errorf("%s holds %v, %v", locks, left, err)
	}
}
