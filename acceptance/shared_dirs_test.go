package acceptance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// mallory is another user of the host. The user need not exist.
const mallory = 45001

// shared makes a directory that everybody can write to.
func (b *box) shared(name string, mode os.FileMode) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	b.must(errors.Join(os.Mkdir(path, 0o755), os.Chmod(path, mode)))
	return path
}

// foreignLocks makes a directory of another user's, with links in place of the reservations.
func (b *box) foreignLocks(path, target string) {
	b.t.Helper()
	b.must(os.Mkdir(path, 0o755))
	for letter := 'f'; letter <= 'p'; letter++ {
		b.must(os.Symlink(filepath.Join(target, string(letter)), filepath.Join(path, "device-"+string(letter))))
	}
	b.must(os.Chown(path, mallory, mallory))
}

// TestDirectoriesOfOthers has what another user made in a directory that everybody can
// write to. A build ends before it creates anything, and says which directory it is.
func TestDirectoriesOfOthers(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		locks, open, target := b.shared("sticky", os.ModeSticky|0o777), b.shared("open", 0o777), b.shared("target", 0o700)
		b.foreignLocks(filepath.Join(locks, "theirs"), target)
		b.must(os.Symlink(target, filepath.Join(locks, "link")))
		b.must(os.Lchown(filepath.Join(locks, "link"), mallory, mallory))
		before := b.inventory()
		clean := b.env
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
			{name: "the mount path", options: o{"mount_path": open + "/{{.Device}}"}, says: []string{"mount_path", open, "0777"}},
			{name: "the mount path's parent", options: o{"mount_path": locks + "/theirs/mnt"}, says: []string{"mount_path", locks + "/theirs", "belongs to user 45001"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := *b
				b.t = t
				if c.env != "" {
					b.env = append(slices.Clone(clean), c.env)
				}
				b.calls()
				b.fails(b.template(f.basic(c.options), shell("true")), c.says...)
				for _, call := range b.calls() {
					if strings.HasPrefix(call.Action, "Create") && call.Status < 300 {
						t.Errorf("%s was made before the error", call.Action)
					}
				}
				for _, dir := range []string{target, open} {
					if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
						t.Errorf("%s holds %v, %v", dir, made, err)
					}
				}
				b.env = clean
				b.unchanged(before)
			})
		}
	})
}

// TestLockDirIsShared: builds of root and of a user with sudo have one lock directory,
// which the first of them makes in a directory for everybody.
func TestLockDirIsShared(t *testing.T) {
	needRoot(t)
	sudoers(t)
	b := newBox(t)
	f := flavors[0]
	locks := filepath.Join(b.shared("lock for all", os.ModeSticky|0o777), "packer-chroot")
	b.env = append(b.env, "PACKER_CHROOT_LOCK_DIR="+locks)
	out, err := b.asNobody("build", "-color=false", b.template(f.basic(o{"command_wrapper": "sudo {{.Command}}", "PREFIX_name": "by nobody"}), shell("true"))).CombinedOutput()
	if err != nil {
		t.Fatalf("packer build: %v\n%s", err, out)
	}
	b.env = append(b.env, "PACKER_CHROOT_STATE_DIR="+filepath.Join(b.dir, "state of root"))
	b.build(b.template(f.basic(o{"PREFIX_name": "by root"}), shell("true")))
	if left, err := os.ReadDir(locks); err != nil || len(left) > 0 {
		t.Errorf("%s holds %v, %v", locks, left, err)
	}
}
