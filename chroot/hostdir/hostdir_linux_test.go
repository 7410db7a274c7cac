package hostdir_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/hostdir"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

func TestMissing(t *testing.T) {
	top := testdir.New(t)
	mkdir(t, top+"/a")
	for path, want := range map[string][]string{
		"/a":       nil,
		"/a/b":     {"/a/b"},
		"/a/b/c":   {"/a/b", "/a/b/c"},
		"/x/../y/": {"/y"},
	} {
		for i := range want {
			want[i] = top + want[i]
		}
		if got := hostdir.Missing(top + path); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestCreateAndRemove(t *testing.T) {
	for name, test := range map[string]struct {
		before string // exists before
		within string // is created by another build after Create
		made   []string
		left   []string
		gone   []string
	}{
		"all missing":                 {made: []string{"a", "a/b", "a/b/c"}, gone: []string{"a"}},
		"a parent exists":             {before: "a/b", made: []string{"a/b/c"}, left: []string{"a/b"}, gone: []string{"a/b/c"}},
		"everything exists":           {before: "a/b/c", left: []string{"a/b/c"}},
		"a parent is in use":          {within: "a/other", made: []string{"a", "a/b", "a/b/c"}, left: []string{"a/other"}, gone: []string{"a/b"}},
		"the directory itself in use": {within: "a/b/c/other", made: []string{"a", "a/b", "a/b/c"}, left: []string{"a/b/c/other"}},
	} {
		t.Run(name, func(t *testing.T) {
			top := testdir.New(t)
			in := func(name string) string { return filepath.Join(top, name) }
			mkdir(t, in(test.before))
			made, err := hostdir.Create(in("a/b/c"))
			if err != nil || !isDir(in("a/b/c")) {
				t.Fatalf("%q, %v", made, err)
			}
			for i, dir := range test.made {
				test.made[i] = in(dir)
			}
			if !slices.Equal(made, test.made) {
				t.Errorf("created %q, want %q", made, test.made)
			}
			mkdir(t, in(test.within))
			hostdir.Remove(made)
			for _, dir := range test.left {
				if !isDir(in(dir)) {
					t.Errorf("%s was removed", dir)
				}
			}
			for _, dir := range test.gone {
				if isDir(in(dir)) {
					t.Errorf("%s remains", dir)
				}
			}
		})
	}
}

// TestCreateInAFile returns the directories that were created before the error.
func TestCreateInAFile(t *testing.T) {
	top := testdir.New(t)
	if err := os.WriteFile(top+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if made, err := hostdir.Create(top + "/file/a"); err == nil || len(made) > 0 {
		t.Errorf("created %q, %v", made, err)
	}
}

// TestCreateBesideRemove creates and removes directories with one parent at the same time, as
// builds do. Each directory exists after its Create and is removed. The parent may remain, if the
// build that created it could not remove it.
func TestCreateBesideRemove(t *testing.T) {
	top := testdir.New(t)
	const builds = 4
	done := make(chan error, builds)
	for n := range builds {
		path := filepath.Join(top, "parent", string(rune('a'+n)))
		go func() {
			for range 50 {
				made, err := hostdir.Create(path)
				if err == nil && !isDir(path) {
					err = fs.ErrNotExist
				}
				hostdir.Remove(made)
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	var err error
	for range builds {
		err = errors.Join(err, <-done)
	}
	if err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(top + "/parent/*"); len(left) > 0 {
		t.Errorf("remaining: %q", left)
	}
}
