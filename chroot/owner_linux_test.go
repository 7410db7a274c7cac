package chroot_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// alice builds with sudo.
const alice = 45002

// TestDownloadDirForAUser checks that only created files belong to the user, and that no
// program runs with that user's rights because of its mode in the image.
func TestDownloadDirForAUser(t *testing.T) {
	m := tiny(t, nil)
	tree := filepath.Join(m.Path(), "root/tree")
	write(t, tree+"/sub/file", "content", 0o640)
	write(t, tree+"/program", "content", 0o755)
	write(t, tree+"/there", "content", 0o644)
	link(t, "/etc/shadow", tree+"/link")
	host := testdir.New(t)
	write(t, host+"/secret", "root's", 0o600)
	out := filepath.Join(host, "out")
	// another user could give a file of root's a further name there
	if err := errors.Join(unix.Chmod(tree+"/program", 0o6755), os.Link(tree+"/sub/file", tree+"/twin"),
		os.Mkdir(out, 0o755), os.Chown(out, alice, alice), os.Link(host+"/secret", out+"/mine")); err != nil {
		t.Fatal(err)
	}
	write(t, out+"/there", "older", 0o600)
	if err := m.DownloadDirFor(t.Context(), "/root/tree/", filepath.Join(out, "of", "alice"), alice); err != nil {
		t.Fatal(err)
	}
	if err := m.DownloadDirFor(t.Context(), "/root/tree/", out, alice); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"out/of": "45002 drwxr-xr-x", "out/of/alice": "45002 drwxr-xr-x", "out/of/alice/there": "45002 -rw-r--r--",
		"out/sub": "45002 drwxr-xr-x", "out/sub/file": "45002 -rw-r-----", "out/twin": "45002 -rw-r-----",
		"out/program": "45002 -rwxr-xr-x", "out/link": "45002 Lrwxrwxrwx",
		"out/there": "0 -rw-------", "out/mine": "0 -rw-------", "secret": "0 -rw-------",
	} {
		if got := lsOf(t, filepath.Join(host, name)); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// lsOf returns the owner and mode of a file.
func lsOf(t *testing.T, path string) string {
	t.Helper()
	var st unix.Stat_t
	info, err := os.Lstat(path)
	if err = errors.Join(err, unix.Lstat(path, &st)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(st.Uid, " ", info.Mode())
}
