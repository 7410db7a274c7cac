package override_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/override"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const path = "/etc/a/resolv.conf"

// root is the directory of a root.
type root struct {
	*testing.T
	dir string
}

func (r root) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r root) open() (*rootfs.Root, error) { return rootfs.OpenRoot(r.dir, r.dir) }

// put puts a file with the text "ours".
func (r root) put(ctx context.Context, f *override.Files, path string) error {
	r.Helper()
	in, err := r.open()
	r.must(err)
	defer in.Close()
	return f.Put(ctx, in, path, strings.NewReader("ours"), 0o640)
}

// entry returns the mode and the text, or the target, of an entry.
func (r root) entry(path string) string {
	r.Helper()
	info, err := os.Lstat(r.dir + path)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	r.must(err)
	if info.Mode()&os.ModeSymlink != 0 {
		target, err := os.Readlink(r.dir + path)
		r.must(err)
		return "link to " + target
	}
	text, err := os.ReadFile(r.dir + path)
	r.must(err)
	return info.Mode().String() + " " + string(text)
}

func TestPutAndPutBack(t *testing.T) {
	theirs := func(path string) error {
		return errors.Join(os.WriteFile(path, []byte("theirs"), 0o600), os.Chmod(path, 0o604))
	}
	change := func(path string) error { return os.WriteFile(path, []byte("changed"), 0o600) }
	for name, test := range map[string]struct {
		before, meanwhile func(path string) error
		want              string
	}{
		"no file":             {want: ""},
		"a file":              {before: theirs, want: "-rw----r-- theirs"},
		"a link":              {before: func(path string) error { return os.Symlink("/etc/target", path) }, want: "link to /etc/target"},
		"changed meanwhile":   {before: theirs, meanwhile: change, want: "-rw-r----- changed"},
		"of another mode":     {before: theirs, meanwhile: func(path string) error { return os.Chmod(path, 0o600) }, want: "-rw------- ours"},
		"created and changed": {meanwhile: change, want: "-rw-r----- changed"},
		"removed meanwhile":   {before: theirs, meanwhile: os.Remove, want: ""},
		"with its directory":  {meanwhile: func(path string) error { return errors.Join(os.Remove(path), os.Remove(filepath.Dir(path))) }, want: ""},
		"replaced by a link":  {before: theirs, meanwhile: func(path string) error { return errors.Join(os.Remove(path), os.Symlink("other", path)) }, want: "link to other"},
	} {
		t.Run(name, func(t *testing.T) {
			r, files := root{t, testdir.New(t)}, &override.Files{}
			if test.before != nil {
				r.must(os.MkdirAll(filepath.Dir(r.dir+path), 0o755))
				r.must(test.before(r.dir + path))
			}
			r.must(r.put(t.Context(), files, path))
			if got := r.entry(path); got != "-rw-r----- ours" || !files.Has(path) || files.Has("/etc/other") {
				t.Errorf("it is %q", got)
			}
			if test.meanwhile != nil {
				r.must(test.meanwhile(r.dir + path))
			}
			r.must(files.PutBack(r.dir, r.open))
			if got := r.entry(path); got != test.want || files.Has(path) {
				t.Errorf("afterwards it is %q, want %q", got, test.want)
			}
			r.left(test.before != nil, test.want)
		})
	}
}

// left fails the test if there are other files than the wanted one.
func (r root) left(parents bool, file string) {
	r.Helper()
	entries, err := os.ReadDir(filepath.Dir(r.dir + path))
	if want := parents || file != ""; want != (err == nil) {
		r.Errorf("the directory exists: %v", !want)
	}
	for _, entry := range entries {
		if entry.Name() != filepath.Base(path) {
			r.Errorf("%s remains", entry.Name())
		}
	}
}

// TestPutTwice restores the files in reverse order.
func TestPutTwice(t *testing.T) {
	r, files := root{t, testdir.New(t)}, &override.Files{}
	r.must(os.WriteFile(r.dir+"/file", []byte("theirs"), 0o600))
	for range 2 {
		r.must(r.put(t.Context(), files, "/file"))
	}
	r.must(files.PutBack(r.dir, r.open))
	if got := r.entry("/file"); got != "-rw------- theirs" {
		t.Errorf("it is %q", got)
	}
}

func TestPutFails(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		ctx        context.Context
		path, want string
	}{
		"a directory":          {t.Context(), "/dir", "is a directory there"},
		"the name of one":      {t.Context(), "/new/", "is the name of a directory"},
		"a file as its parent": {t.Context(), "/file/new", "not a directory"},
		"canceled":             {canceled, "/file", "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			r, files := root{t, testdir.New(t)}, &override.Files{}
			r.must(os.Mkdir(r.dir+"/dir", 0o700))
			r.must(os.WriteFile(r.dir+"/file", []byte("theirs"), 0o600))
			if err := r.put(test.ctx, files, test.path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			r.must(files.PutBack(r.dir, r.open))
			if got := r.entry("/file"); got != "-rw------- theirs" || r.entry("/new") != "" {
				t.Errorf("the file is %q", got)
			}
		})
	}
}
