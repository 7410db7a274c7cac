package testdir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// New returns a new empty directory that is removed when the test and its subtests are
// complete. If something is mounted in it then, New fails the test, names the mounts and
// leaves the directory as it is.
func New(t testing.TB) string {
	t.Helper()
	return NewIn(t, "")
}

// NewIn is New with the parent directory; "" stands for os.TempDir.
func NewIn(t testing.TB, parent string) string {
	t.Helper()
	// the outer directory keeps other users away, whatever mode a test gives the inner one
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
