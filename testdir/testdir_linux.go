package testdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// New returns a new empty directory that is removed when the test and its subtests are
// complete. If the directory contains mounts by then, the test fails with their names, and
// the directory remains.
func New(t testing.TB) string {
	t.Helper()
	return NewIn(t, "")
}

// NewIn is like New, with a parent directory; "" is os.TempDir.
func NewIn(t testing.TB, parent string) string {
	t.Helper()
	// the outer directory keeps other users out, whatever mode the inner one gets
	outer, err := os.MkdirTemp(parent, "t")
	if err != nil {
		t.Fatalf("cannot make a directory for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := remove.All(outer); err != nil {
			t.Errorf("the test's directory stays: %v", err)
		}
	})
	dir := filepath.Join(outer, "d")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatalf("cannot make a directory for the test: %v", err)
	}
	return dir
}
