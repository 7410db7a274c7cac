package safedir_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// alice is the user who builds with sudo. mallory is another user, and not root.
const (
	mallory = 45001
	alice   = 45002
)

// stage is a directory for directories of any mode and owner.
type stage struct {
	*testing.T
	root string
}

func newStage(t *testing.T) stage {
	testroot.Need(t, "giving files to other users")
	t.Setenv("SUDO_UID", "")
	return stage{t, testdir.New(t)}
}

func (s stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s stage) at(name string) string { return filepath.Join(s.root, name) }

// mkdir creates a directory.
func (s stage) mkdir(name string, mode uint32, owner int) string {
	s.Helper()
	s.must(os.Mkdir(s.at(name), 0o700))
	s.must(os.Chown(s.at(name), owner, owner))
	s.must(unix.Chmod(s.at(name), mode))
	return s.at(name)
}

// file creates a file.
func (s stage) file(name string, mode uint32, owner int) string {
	s.Helper()
	s.must(os.WriteFile(s.at(name), []byte("content"), 0o600))
	s.must(os.Chown(s.at(name), owner, owner))
	s.must(unix.Chmod(s.at(name), mode))
	return s.at(name)
}

// link creates a symbolic link.
func (s stage) link(name, target string, owner int) string {
	s.Helper()
	s.must(os.Symlink(target, s.at(name)))
	s.must(os.Lchown(s.at(name), owner, owner))
	return s.at(name)
}

// refused fails the test unless an error contains all of the texts.
func (s stage) refused(err error, says ...string) {
	s.Helper()
	if err == nil {
		s.Errorf("no error, want one that says %q", says)
		return
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			s.Errorf("error %q does not say %q", err, part)
		}
	}
}

// TestMakeRefuses checks that Make refuses unsafe paths. Each case prepares one below a
// directory.
func TestMakeRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		path func(s stage) string
		says []string
	}{
		"a link in place of the directory": {func(s stage) string {
			s.mkdir("shared", 0o1777, 0)
			s.mkdir("other", 0o700, 0)
			return s.link("shared/dir", s.at("other"), mallory)
		}, []string{"/shared/dir belongs to user 45001", "/shared can be written to by others: its mode is 1777"}},
		"a link of one's own in place of the directory": {func(s stage) string {
			s.mkdir("other", 0o700, 0)
			return s.link("dir", s.at("other"), 0)
		}, []string{"/dir is a symbolic link", "/other"}},
		"a foreign link on the way": {func(s stage) string {
			s.mkdir("shared", 0o777, 0)
			s.mkdir("other", 0o700, 0)
			return s.link("shared/way", s.at("other"), mallory) + "/dir"
		}, []string{"/shared/way belongs to user 45001"}},
		"another user's directory": {func(s stage) string {
			return s.mkdir("dir", 0o755, mallory)
		}, []string{"/dir belongs to user 45001, and this is user 0"}},
		"another user's directory in a sticky one": {func(s stage) string {
			s.mkdir("shared", 0o1777, 0)
			return s.mkdir("shared/dir", 0o755, mallory)
		}, []string{"/shared/dir belongs to user 45001"}},
		"another user's directory on the way": {func(s stage) string {
			s.mkdir("shared", 0o1777, 0)
			s.mkdir("shared/way", 0o755, mallory)
			return s.mkdir("shared/way/dir", 0o755, mallory)
		}, []string{"/shared/way belongs to user 45001"}},
		"a directory below another user's": {func(s stage) string {
			s.mkdir("home", 0o755, mallory)
			return s.mkdir("home/dir", 0o755, mallory)
		}, []string{"/home/dir belongs to user 45001", "/home belongs to user 45001"}},
		"everybody can write": {func(s stage) string {
			return s.mkdir("dir", 0o777, 0)
		}, []string{"/dir can be written to by others: its mode is 0777"}},
		"everybody can write to a sticky one": {func(s stage) string {
			return s.mkdir("dir", 0o1777, 0)
		}, []string{"/dir can be written to by others: its mode is 1777"}},
		"a group can write": {func(s stage) string {
			path := s.mkdir("dir", 0o770, 0)
			s.must(os.Chown(path, 0, 100))
			return path
		}, []string{"/dir can be written to by others: its mode is 0770"}},
		"a file in place of the directory": {func(s stage) string {
			return s.file("dir", 0o600, 0)
		}, []string{"/dir is not a directory"}},
		"a pipe in place of the directory": {func(s stage) string {
			s.must(unix.Mkfifo(s.at("dir"), 0o600))
			return s.at("dir")
		}, []string{"/dir is not a directory"}},
		"links in a circle": {func(s stage) string {
			s.link("one", "two", 0)
			return s.link("two", "one", 0) + "/dir"
		}, []string{"too many levels of symbolic links"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			path := c.path(s)
			d, err := safedir.Make(path, 0o755)
			s.refused(err, c.says...)
			if err == nil {
				s.must(d.Close())
			}
			if left, err := os.ReadDir(s.at("other")); err == nil && len(left) > 0 {
				t.Errorf("made %v where the link leads", left)
			}
		})
	}
}

// TestMake checks that Make accepts paths of ordinary use.
func TestMake(t *testing.T) {
	for name, path := range map[string]func(s stage) string{
		"missing":                  func(s stage) string { return s.at("made/when/needed") },
		"missing in a sticky one":  func(s stage) string { return s.mkdir("shared", 0o1777, 0) + "/made/when needed" },
		"there in a sticky one":    func(s stage) string { s.mkdir("shared", 0o1777, 0); return s.mkdir("shared/dir", 0o755, 0) },
		"below a link of root's":   func(s stage) string { s.mkdir("real", 0o755, 0); return s.link("var", "real", 0) + "/dir" },
		"below a link up and away": func(s stage) string { s.mkdir("real", 0o755, 0); return s.link("var", "real/../real", 0) + "/dir" },
		"below an absolute link":   func(s stage) string { return s.link("var", s.mkdir("real", 0o755, 0), 0) + "/dir" },
		"in another user's directory, made by root": func(s stage) string {
			s.mkdir("home", 0o755, mallory)
			return s.mkdir("home/dir", 0o700, 0)
		},
		"its user's own group": func(s stage) string { return s.mkdir("dir", 0o770, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			path := path(s)
			for range 2 { // made, and there
				d, err := safedir.Make(path, 0o755)
				s.must(err)
				f, err := d.OpenFile("file", os.O_RDWR|os.O_CREATE, 0o600)
				s.must(err)
				if !d.Holds("file", f) || d.Path() != path || f.Name() != filepath.Join(path, "file") {
					t.Errorf("the file %s is not in %s", f.Name(), d.Path())
				}
				s.must(errors.Join(f.Close(), d.Close()))
			}
			if _, err := os.Stat(filepath.Join(path, "file")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOpenMissing(t *testing.T) {
	s := newStage(t)
	if _, err := safedir.Open(s.at("nowhere/dir")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if left, _ := os.ReadDir(s.root); len(left) > 0 {
		t.Errorf("made %v", left)
	}
}

// TestTrust checks that the user named by Trust, and the user who started this process with
// sudo, are trusted.
func TestTrust(t *testing.T) {
	s := newStage(t)
	path := s.mkdir("dir", 0o755, alice)
	opens := func() error {
		d, err := safedir.Open(path)
		if err == nil {
			err = d.Close()
		}
		return err
	}
	s.refused(opens(), "belongs to user 45002")
	t.Setenv("SUDO_UID", "45002")
	s.must(opens())
	t.Setenv("SUDO_UID", "45001")
	s.refused(opens(), "belongs to user 45002")
	safedir.Trust(alice)
	defer safedir.Trust(0)
	s.must(opens())
}

// TestOpenFileRefuses checks that OpenFile refuses unsafe entries in place of a file.
func TestOpenFileRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func(s stage)
		says string
	}{
		"a link":              {func(s stage) { s.link("dir/file", s.file("other", 0o600, 0), 0) }, "/dir/file is a symbolic link"},
		"a link to nowhere":   {func(s stage) { s.link("dir/file", s.at("nowhere"), 0) }, "/dir/file is a symbolic link"},
		"a pipe":              {func(s stage) { s.must(unix.Mkfifo(s.at("dir/file"), 0o600)) }, "/dir/file is not a regular file"},
		"a device":            {func(s stage) { s.must(unix.Mknod(s.at("dir/file"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))) }, "/dir/file is not a regular file"},
		"a directory":         {func(s stage) { s.mkdir("dir/file", 0o755, 0) }, "/dir/file: is a directory"},
		"another user's":      {func(s stage) { s.file("dir/file", 0o600, mallory) }, "/dir/file belongs to user 45001"},
		"one for everybody":   {func(s stage) { s.file("dir/file", 0o666, 0) }, "/dir/file can be written to by others: its mode is 0666"},
		"another file's name": {func(s stage) { s.must(os.Link(s.file("other", 0o600, 0), s.at("dir/file"))) }, "/dir/file has another name"},
		"no name":             {func(stage) {}, "invalid argument"},
		"a way out":           {func(stage) {}, "invalid argument"},
		"another directory's": {func(stage) {}, "invalid argument"},
		"the directory's own": {func(stage) {}, "invalid argument"},
		"the root directory":  {func(stage) {}, "invalid argument"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.mkdir("dir", 0o755, 0)
			c.make(s)
			d, err := safedir.Open(s.at("dir"))
			s.must(err)
			defer d.Close()
			file, odd := map[string]string{"no name": "", "a way out": "..", "another directory's": "../other", "the directory's own": ".", "the root directory": "/"}[name]
			if !odd {
				file = "file"
			}
			f, err := d.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
			s.refused(err, c.says)
			if err == nil {
				s.must(f.Close())
			}
			if got, err := os.ReadFile(s.at("other")); err == nil && string(got) != "content" {
				t.Errorf("the other file holds %q", got)
			}
			if _, err := os.Lstat(s.at("nowhere")); err == nil {
				t.Error("the link was followed")
			}
		})
	}
}

// TestDirAfterASwap checks that a directory that replaces an open one has no effect.
func TestDirAfterASwap(t *testing.T) {
	s := newStage(t)
	s.mkdir("shared", 0o777, 0)
	s.mkdir("other", 0o755, 0)
	path := s.mkdir("shared/dir", 0o755, 0)
	d, err := safedir.Open(path)
	s.must(err)
	defer d.Close()
	s.must(os.Rename(path, s.at("shared/away")))
	s.link("shared/dir", s.at("other"), mallory)
	f, err := d.OpenFile("file", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	s.must(err)
	defer f.Close()
	s.must(d.Rename("file", "renamed"))
	entries, err := d.Entries()
	s.must(err)
	if len(entries) != 1 || entries[0].Name() != "renamed" || !d.Holds("renamed", f) || d.Holds("file", f) {
		t.Errorf("there are %v", entries)
	}
	s.must(errors.Join(d.Sync(), d.Remove("renamed")))
	if err := d.Remove("renamed"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
	if left, err := os.ReadDir(s.at("other")); err != nil || len(left) > 0 {
		t.Errorf("made %v, %v where the link leads", left, err)
	}
}

func TestFixed(t *testing.T) {
	for name, c := range map[string]struct {
		path func(s stage) string
		says string // empty: nothing is wrong
	}{
		"there":                    {func(s stage) string { return s.mkdir("dir", 0o755, 0) }, ""},
		"missing":                  {func(s stage) string { return s.at("not/there") }, ""},
		"another user's mount":     {func(s stage) string { return s.mkdir("dir", 0o777, mallory) }, ""},
		"a link of root's":         {func(s stage) string { return s.link("link", s.mkdir("dir", 0o755, 0), 0) }, ""},
		"in a sticky one":          {func(s stage) string { s.mkdir("tmp", 0o1777, 0); return s.mkdir("tmp/dir", 0o755, 0) }, ""},
		"missing in a sticky one":  {func(s stage) string { return s.mkdir("tmp", 0o1777, 0) + "/dir/mnt" }, ""},
		"a sticky one's other":     {func(s stage) string { s.mkdir("tmp", 0o1777, 0); return s.mkdir("tmp/dir", 0o755, mallory) + "/mnt" }, "/tmp/dir belongs to user 45001"},
		"a sticky one's link":      {func(s stage) string { s.mkdir("tmp", 0o1777, 0); return s.link("tmp/dir", "/etc", mallory) }, "/tmp/dir belongs to user 45001"},
		"in another's sticky one":  {func(s stage) string { s.mkdir("tmp", 0o1777, mallory); return s.mkdir("tmp/dir", 0o755, 0) }, "/tmp belongs to user 45001"},
		"everybody can replace it": {func(s stage) string { s.mkdir("tmp", 0o777, 0); return s.mkdir("tmp/dir", 0o755, 0) }, "/tmp/dir can be replaced by others: the directory"},
		"everybody can make it":    {func(s stage) string { return s.mkdir("tmp", 0o777, 0) + "/dir/mnt" }, "/tmp/dir can be replaced by others"},
		"a user can replace it":    {func(s stage) string { s.mkdir("home", 0o755, mallory); return s.mkdir("home/dir", 0o755, 0) }, "/home belongs to user 45001"},
		"a user can make it":       {func(s stage) string { return s.mkdir("home", 0o755, mallory) + "/dir" }, "/home belongs to user 45001"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			err := safedir.Fixed(c.path(s))
			if c.says != "" {
				s.refused(err, c.says)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}
