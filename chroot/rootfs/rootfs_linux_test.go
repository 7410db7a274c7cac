package rootfs_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// image is a directory with a root in it and a file beside the root. Links of the root point
// to that file if they are resolved as on the host.
type image struct {
	*testing.T
	*rootfs.Root
	dir string // the root
}

func newImage(t *testing.T) *image {
	t.Helper()
	top := testdir.New(t)
	i := &image{T: t, dir: filepath.Join(top, "root")}
	i.must(errors.Join(os.MkdirAll(i.dir+"/etc", 0o755), os.WriteFile(top+"/host", []byte("host"), 0o600)))
	i.write("etc/file", "inside")
	i.link(top+"/host", "etc/absolute")
	i.link("../../host", "etc/relative")
	i.link("/etc/file", "etc/link")
	i.link("/missing/file", "etc/dangling")
	i.link("loop", "etc/loop")
	var err error
	i.Root, err = rootfs.OpenRoot(i.dir, "IMAGE")
	i.must(err)
	t.Cleanup(i.Close)
	return i
}

func (i *image) must(err error) {
	i.Helper()
	if err != nil {
		i.Fatal(err)
	}
}

func (i *image) write(name, text string) {
	i.Helper()
	i.must(os.WriteFile(filepath.Join(i.dir, name), []byte(text), 0o600))
}

func (i *image) link(target, name string) {
	i.Helper()
	i.must(os.Symlink(target, filepath.Join(i.dir, name)))
}

// exists reports whether the root has an entry.
func (i *image) exists(name string) bool {
	_, err := os.Lstat(filepath.Join(i.dir, name))
	return err == nil
}

// check fails the test unless an error contains a text, or is nil if the text is empty.
func check(t *testing.T, what string, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("%s: the error is %v, want %q", what, err, want)
	}
}

// TestReadText checks that no link leads out of the root, and only regular files are opened.
func TestReadText(t *testing.T) {
	i := newImage(t)
	i.must(unix.Mkfifo(i.dir+"/etc/pipe", 0o600))
	for path, want := range map[string]struct{ text, err string }{
		"/etc/file":              {text: "inside"},
		"etc/file":               {text: "inside"},
		"/etc/link":              {text: "inside"},
		"/../../etc/../etc/file": {text: "inside"},
		"/etc/absolute":          {err: "open IMAGE:/etc/absolute: no such file"},
		"/etc/relative":          {err: "no such file"},
		"/etc/dangling":          {err: "no such file"},
		"/etc/loop":              {err: "too many levels"},
		"/etc":                   {err: "IMAGE:/etc is a directory, not a regular file"},
		"/etc/pipe":              {err: "is a named pipe, not a regular file"},
	} {
		text, err := i.ReadText(path)
		check(t, path, err, want.err)
		if text != want.text {
			t.Errorf("%s contains %q", path, text)
		}
	}
}

func TestReadLink(t *testing.T) {
	i := newImage(t)
	if target, err := i.ReadLink("/etc/link"); target != "/etc/file" || err != nil {
		t.Errorf("the target is %q, %v", target, err)
	}
	_, err := i.ReadLink("/etc/file")
	check(t, "a file", err, "no such file") // as readlinkat(2) of a descriptor returns it
}

func TestCreate(t *testing.T) {
	for path, test := range map[string]struct {
		at, err string
		made    bool
		mode    os.FileMode
		created []string
	}{
		"/etc/file":     {at: "etc/file", mode: 0o600},
		"/etc/link":     {at: "etc/file", mode: 0o600},
		"/etc/new":      {at: "etc/new", made: true, mode: 0o640},
		"/a/b/new":      {at: "a/b/new", made: true, mode: 0o640, created: []string{"/a", "/a/b"}},
		"/etc/dangling": {err: "no such file"},
		"/etc/":         {err: "IMAGE:/etc/ is the name of a directory"},
		"/etc":          {err: "is a directory"},
		"/etc/file/new": {err: "not a directory"},
	} {
		t.Run(path, func(t *testing.T) {
			i := newImage(t)
			f, made, err := i.Create(path, 0o640)
			check(t, path, err, test.err)
			if made != test.made || !slices.Equal(i.Created, test.created) {
				t.Errorf("created: %v, with the directories %q", made, i.Created)
			}
			if err != nil {
				return
			}
			defer f.Close()
			_, err = io.WriteString(f, "new")
			i.must(err)
			text, err := os.ReadFile(filepath.Join(i.dir, test.at))
			i.must(err)
			info, err := os.Stat(filepath.Join(i.dir, test.at))
			i.must(err)
			if string(text) != "new" || info.Mode() != test.mode {
				t.Errorf("it contains %q, with the mode %v", text, info.Mode())
			}
		})
	}
}

func TestMkdirAllAndRemoveDirs(t *testing.T) {
	i := newImage(t)
	i.link("/etc", "link")
	i.must(i.MkdirAll("/link/a/./b"))
	if want := []string{"/link/a", "/link/a/b"}; !slices.Equal(i.Created, want) || !i.exists("etc/a/b") {
		t.Errorf("created %q, want %q", i.Created, want)
	}
	check(t, "a dangling link", i.MkdirAll("/etc/dangling/a"), "a link is there that leads nowhere")
	check(t, "a file", i.MkdirAll("/etc/file/a"), "not a directory")

	i.write("etc/a/file", "")
	i.must(i.RemoveDirs(i.Created))
	if i.exists("etc/a/b") || !i.exists("etc/a/file") {
		t.Error("an empty directory remains, or another one was removed")
	}
	i.must(os.Remove(i.dir + "/etc/a/file"))
	i.must(i.RemoveDirs(i.Created))
	if i.exists("etc/a") || !i.exists("etc") {
		t.Error("the created directory remains, or its parent was removed")
	}
	i.must(i.RemoveDirs([]string{"/gone/a", "/etc/file/a", "/etc/loop/a"}))
}

func TestRemoveEmpty(t *testing.T) {
	i := newImage(t)
	i.must(i.MkdirAll("/dir"))
	i.must(i.MkdirAll("/full/sub"))
	i.must(i.Touch("/empty"))
	for path, stays := range map[string]bool{"/dir": false, "/empty": false, "/full": true, "/etc/file": true, "/etc/link": true, "/missing/file": false} {
		i.RemoveEmpty(path)
		if i.exists(path) != stays {
			t.Errorf("%s exists: %v", path, !stays)
		}
	}
}

// TestDiscard checks that a file that has taken the place of the created one remains.
func TestDiscard(t *testing.T) {
	i := newImage(t)
	f, _, err := i.Create("/etc/new", 0o600)
	i.must(err)
	defer f.Close()
	i.must(os.Rename(i.dir+"/etc/file", i.dir+"/etc/new.2"))
	i.Discard("/etc/new.2", f)
	if !i.exists("etc/new.2") {
		t.Error("another file was removed")
	}
	i.Discard("/etc/new", f)
	if i.exists("etc/new") {
		t.Error("the created file remains")
	}
}

func TestDestination(t *testing.T) {
	i := newImage(t)
	i.link("/etc", "link")
	for _, test := range []struct{ dst, name, want, err string }{
		{"/etc", "new", "/etc/new", ""},
		{"/etc//", "new", "/etc/new", ""},
		{"/link", "new", "/link/new", ""},
		{"/etc", "", "/etc", ""},
		{"/etc/file", "new", "/etc/file", ""},
		{"/missing", "new", "/missing", ""},
		{"/etc", "..", "", `".." is not a file name`},
		{"/etc", "a/b", "", `"a/b" is not a file name`},
	} {
		got, err := i.Destination(test.dst, test.name)
		check(t, test.dst, err, test.err)
		if got != test.want {
			t.Errorf("%s and %q: %s, want %s", test.dst, test.name, got, test.want)
		}
	}
}

func TestSplit(t *testing.T) {
	for path, want := range map[string][2]string{
		"/etc/file": {"/etc/", "file"}, "file": {"", "file"}, "/etc/": {"/etc/", ""}, "/a/../b": {"/a/../", "b"}, "": {"", ""},
	} {
		if dir, name := rootfs.Split(path); [2]string{dir, name} != want {
			t.Errorf("%s: %q and %q", path, dir, name)
		}
	}
}

func TestKindOf(t *testing.T) {
	i := newImage(t)
	i.must(unix.Mkfifo(i.dir+"/pipe", 0o600))
	for path, want := range map[string]string{
		i.dir: "a directory", i.dir + "/etc/file": "a file", i.dir + "/etc/link": "a link", i.dir + "/pipe": "a named pipe", "/dev/null": "a device",
	} {
		info, err := os.Lstat(path)
		i.must(err)
		var st unix.Stat_t
		i.must(unix.Lstat(path, &st))
		if got := []string{rootfs.KindOf(info.Mode()), rootfs.KindOfStat(&st)}; got[0] != want || got[1] != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

func TestRename(t *testing.T) {
	i := newImage(t)
	dir, err := os.Open(i.dir + "/etc")
	i.must(err)
	defer dir.Close()
	check(t, "an existing name", rootfs.Rename(dir, "file", "link", unix.RENAME_NOREPLACE), "file exists")
	i.must(rootfs.Rename(dir, "file", "free", unix.RENAME_NOREPLACE))
	i.must(rootfs.Remove(dir, "free"))
	i.must(rootfs.Remove(dir, "free"))
	if i.exists("etc/file") || i.exists("etc/free") {
		t.Error("the file remains")
	}
}

// TestImmutable clears and sets the flags of a file, if the file system has any.
func TestImmutable(t *testing.T) {
	testroot.Need(t, "the immutable flag")
	i := newImage(t)
	dir, err := os.Open(i.dir + "/etc")
	i.must(err)
	defer dir.Close()
	t.Cleanup(func() { _, _ = rootfs.ClearImmutable(dir, "file") })
	for _, flags := range []int{unix.STATX_ATTR_IMMUTABLE, unix.STATX_ATTR_APPEND} {
		i.must(rootfs.SetImmutable(dir, "file", flags))
		f, err := os.Open(i.dir + "/etc/file")
		i.must(err)
		got := rootfs.Immutable(f)
		f.Close()
		if got != flags {
			t.Errorf("the flags are %#x, want %#x", got, flags)
		}
		if err := os.Remove(i.dir + "/etc/file"); !errors.Is(err, unix.EPERM) {
			t.Errorf("removing it: %v", err)
		}
		set, err := rootfs.ClearImmutable(dir, "file")
		if err != nil || set != flags {
			t.Errorf("cleared %#x, %v", set, err)
		}
	}
	if set, err := rootfs.ClearImmutable(dir, "link"); set != 0 || err != nil {
		t.Errorf("of a link: %#x, %v", set, err)
	}
}
