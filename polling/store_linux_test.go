package polling_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// spans are the durations of the last wait, and of all.
var spans = []polling.Span{{After: 2 * time.Second, By: 3 * time.Second}}

// saved returns a state directory with a wait, and its file.
func saved(t *testing.T) (dir, file string) {
	t.Helper()
	dir = testdir.New(t)
	s := polling.NewStore(dir, "aws")
	s.Ended("volume", spans[0])
	if err := s.Save(); err != nil {
		t.Fatal(err)
	}
	return dir, filepath.Join(dir, polling.FileName)
}

// TestStore checks that a later build reads the durations of an earlier one in the same cloud, and
// that only its user can read the file.
func TestStore(t *testing.T) {
	dir, file := saved(t)
	if diff := cmp.Diff(spans, polling.NewStore(dir, "aws").Earlier("volume")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, other := range [][]polling.Span{
		polling.NewStore(dir, "another cloud").Earlier("volume"), polling.NewStore(dir, "aws").Earlier("image"),
		polling.NewStore("", "aws").Earlier("volume"), polling.NewStore(dir+"/none", "aws").Earlier("volume"),
	} {
		if len(other) > 0 {
			t.Errorf("other waits took %v", other)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestNothingToRemember checks that there is no file without a wait, and no directory without a
// journal.
func TestNothingToRemember(t *testing.T) {
	dir := testdir.New(t)
	if err := polling.NewStore(dir, "aws").Save(); err != nil {
		t.Error(err)
	}
	s := polling.NewStore(filepath.Join(dir, "none"), "aws")
	s.Ended("volume", spans[0])
	if err := s.Save(); err != nil {
		t.Errorf("without a state directory: %v", err)
	}
	s.Ended("volume", polling.Span{After: 3, By: 2})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("created %v, %v", left, err)
	}
	none := polling.NewStore("", "aws")
	none.Ended("volume", spans[0])
	if none.Save() != nil || none.Throttled() != nil || none.Slowed(time.Second) != time.Second {
		t.Error("without a directory, something is remembered")
	}
}

// TestUnusableFiles checks that a file which is damaged or not this user's own counts as empty, and
// is only written to if it is this user's.
func TestUnusableFiles(t *testing.T) {
	testroot.Need(t, "giving files to other users")
	for name, test := range map[string]struct {
		spoil func(t *testing.T, dir, file string) error
		// rewritten means that the file begins anew; otherwise Save returns an error.
		rewritten bool
	}{
		"damaged":              {func(_ *testing.T, _, file string) error { return os.WriteFile(file, []byte("garbage"), 0o600) }, true},
		"huge":                 {func(_ *testing.T, _, file string) error { return os.WriteFile(file, make([]byte, 1<<20), 0o600) }, true},
		"of another user":      {func(_ *testing.T, _, file string) error { return os.Chown(file, 65534, 65534) }, false},
		"writable by others":   {func(_ *testing.T, _, file string) error { return os.Chmod(file, 0o666) }, false},
		"with another name":    {func(_ *testing.T, dir, file string) error { return os.Link(file, filepath.Join(dir, "other")) }, false},
		"in an open directory": {func(_ *testing.T, dir, _ string) error { return os.Chmod(dir, 0o777) }, false},
		"a symbolic link": {func(_ *testing.T, dir, file string) error {
			return os.Rename(file, filepath.Join(dir, "other"))
		}, true},
		"a directory": {func(_ *testing.T, _, file string) error {
			if err := os.Remove(file); err != nil {
				return err
			}
			return os.Mkdir(file, 0o700)
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir, file := saved(t)
			if err := test.spoil(t, dir, file); err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(file)
			s := polling.NewStore(dir, "aws")
			if earlier := s.Earlier("volume"); len(earlier) > 0 {
				t.Errorf("read %v", earlier)
			}
			s.Ended("image", spans[0])
			err := s.Save()
			if (err == nil) != test.rewritten {
				t.Errorf("saved: %v", err)
			}
			after, _ := os.ReadFile(file)
			if !test.rewritten && string(after) != string(before) {
				t.Errorf("%q was written to", before)
			}
			if test.rewritten && len(s.Earlier("image")) != 1 {
				t.Errorf("it does not begin anew: %q", after)
			}
		})
	}
}

// TestSymbolicLink checks that a link to another file is not followed.
func TestSymbolicLink(t *testing.T) {
	dir, file := saved(t)
	other := filepath.Join(dir, "other")
	if err := os.Rename(file, other); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("other", file); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(other)
	s := polling.NewStore(dir, "aws")
	if earlier := s.Earlier("volume"); len(earlier) > 0 {
		t.Errorf("read %v", earlier)
	}
	if err := s.Throttled(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v", err)
	}
	if after, _ := os.ReadFile(other); string(after) != string(before) {
		t.Error("the file behind a link was written to")
	}
}

// TestLockedFile checks that a stopped process that holds the lock delays a build for a moment
// only, and keeps nobody from reading.
func TestLockedFile(t *testing.T) {
	dir, file := saved(t)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s := polling.NewStore(dir, "aws")
	if earlier := s.Earlier("volume"); len(earlier) != 1 {
		t.Errorf("read %v", earlier)
	}
	s.Ended("image", spans[0])
	if err := s.Save(); err == nil || !strings.Contains(err.Error(), "lock "+file) {
		t.Errorf("saved in spite of the lock: %v", err)
	}
	f.Close() // the kernel does the same if the process is killed
	if err := s.Save(); err != nil || len(s.Earlier("image")) != 1 {
		t.Errorf("saved after the lock: %v", err)
	}
}

// TestManyBuilds checks that builds which save at the same time lose nothing.
func TestManyBuilds(t *testing.T) {
	dir := testdir.New(t)
	const builds = 16
	var work sync.WaitGroup
	for i := range builds {
		work.Go(func() {
			s := polling.NewStore(dir, "aws")
			s.Ended(fmt.Sprint("kind ", i), spans[0])
			for s.Save() != nil { // another build may hold the lock for long on a busy machine
				continue
			}
		})
	}
	work.Wait()
	for i := range builds {
		if earlier := polling.NewStore(dir, "aws").Earlier(fmt.Sprint("kind ", i)); len(earlier) != 1 {
			t.Errorf("build %d: %v", i, earlier)
		}
	}
}

// TestThrottledTogether checks that a throttled look of one build slows down those of another.
func TestThrottledTogether(t *testing.T) {
	dir := testdir.New(t)
	one, other := polling.NewStore(dir, "aws"), polling.NewStore(dir, "aws")
	if d := other.Slowed(time.Second); d != time.Second {
		t.Errorf("a pause of a second is %v", d)
	}
	if err := one.Throttled(); err != nil {
		t.Fatal(err)
	}
	if d := other.Slowed(time.Second); d < 1200*time.Millisecond || d > 2500*time.Millisecond {
		t.Errorf("while another build is throttled, a pause of a second is %v", d)
	}
	if d := other.Slowed(time.Hour); d != time.Hour {
		t.Errorf("a pause of an hour is %v", d)
	}
}
