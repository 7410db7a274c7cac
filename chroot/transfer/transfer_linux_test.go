package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// stage is a root, and a directory of the host beside it.
type stage struct {
	*testing.T
	in         *rootfs.Root
	root, host string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	top := testdir.New(t)
	s := &stage{T: t, root: filepath.Join(top, "root"), host: filepath.Join(top, "host")}
	s.must(errors.Join(os.Mkdir(s.root, 0o755), os.Mkdir(s.host, 0o755)))
	var err error
	s.in, err = rootfs.OpenRoot(s.root, s.root)
	s.must(err)
	t.Cleanup(s.in.Close)
	return s
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) write(path, text string, mode os.FileMode) {
	s.Helper()
	s.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)))
}

// tree returns the entries below a directory: the mode, and the text or the target of each.
func (s *stage) tree(dir string) string {
	s.Helper()
	var all []string
	s.must(filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := ""
		switch {
		case info.Mode().IsRegular():
			raw, err := os.ReadFile(path)
			s.must(err)
			text = " " + string(raw)
		case info.Mode()&os.ModeSymlink != 0:
			text, err = os.Readlink(path)
			s.must(err)
			text = " -> " + text
		}
		all = append(all, fmt.Sprintf("%s %s%s", strings.TrimPrefix(path, dir+"/"), info.Mode(), text))
		return nil
	}))
	return strings.Join(all, "\n")
}

// entry returns an entry of a directory in the root, as tree does, or "" if there is none.
func (s *stage) entry(dir, name string) string {
	s.Helper()
	for line := range strings.Lines(s.tree(s.root + dir)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// check fails the test unless an error contains a text, or is nil if the text is empty.
func check(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
		t.Errorf("the error is %v, want %q", err, want)
	}
}

// failing is a reader that fails after some text.
func failing(text string) io.Reader {
	return io.MultiReader(strings.NewReader(text), readerFunc(func([]byte) (int, error) { return 0, errors.New("the source is gone") }))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestUpload(t *testing.T) {
	for name, test := range map[string]struct {
		dst, file string
		src       io.Reader
		at, want  string // a file in /etc afterwards
		err       string
	}{
		"a new file":           {dst: "/etc/new", at: "new", want: "-rw-r----- text"},
		"an existing file":     {dst: "/etc/old", at: "old", want: "urwxr-xr-x text"},
		"by a link":            {dst: "/etc/link", at: "old", want: "urwxr-xr-x text"},
		"into a directory":     {dst: "/etc", file: "new", at: "new", want: "-rw-r----- text"},
		"a directory, no name": {dst: "/etc", at: "old", want: "urwxr-xr-x old", err: "is a directory"},
		"new, no source":       {dst: "/etc/new", src: failing("half"), at: "new", err: "the source is gone"},
		"existing, no source":  {dst: "/etc/plain", src: failing("half"), at: "plain", want: "-rw-r--r-- half", err: "the source is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.write(s.root+"/etc/old", "old", 0o755|os.ModeSetuid)
			s.write(s.root+"/etc/plain", "plain", 0o644)
			s.must(os.Symlink("/etc/old", s.root+"/etc/link"))
			if test.src == nil {
				test.src = strings.NewReader("text")
			}
			check(t, transfer.Upload(t.Context(), s.in, test.dst, test.src, transfer.NewFile{Name: test.file, Mode: 0o640}, &transfer.Uploads{}), test.err)
			if got := s.entry("/etc", test.at); got != test.want {
				t.Errorf("%s is %q, want %q", test.at, got, test.want)
			}
			if got := s.entry("/etc", "link"); got != "Lrwxrwxrwx -> /etc/old" {
				t.Errorf("the link is %q", got)
			}
		})
	}
}

func TestDownload(t *testing.T) {
	s := newStage(t)
	s.write(s.root+"/file", "text", 0o600)
	s.must(unix.Mkfifo(s.root+"/pipe", 0o600))
	for path, want := range map[string]string{"/file": "", "/missing": "no such file", "/pipe": "is a named pipe"} {
		var buffer bytes.Buffer
		check(t, transfer.Download(t.Context(), s.in, path, &buffer), want)
		if want == "" && buffer.String() != "text" {
			t.Errorf("%s: %q", path, buffer.String())
		}
	}
	f, err := os.Create(s.host + "/copy")
	s.must(err)
	s.must(errors.Join(transfer.Download(t.Context(), s.in, "/file", f), f.Close()))
	if got := s.tree(s.host); !strings.HasSuffix(got, " text") {
		t.Errorf("the copy is %q", got)
	}
}

func TestCopyIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	endless := readerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if err := transfer.Copy(ctx, io.Discard, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

// source creates a directory with entries of each kind that is copied.
func (s *stage) source(dir string) {
	s.Helper()
	s.write(dir+"/file", "text", 0o640)
	s.write(dir+"/sub/tool", "tool", 0o755)
	s.must(errors.Join(os.Link(dir+"/file", dir+"/sub/twin"), os.Symlink("/etc/passwd", dir+"/link"), os.Chmod(dir+"/sub", 0o750)))
	s.must(os.Chtimes(dir+"/file", time.Time{}, time.Unix(1_000_000_000, 0)))
}

const (
	copied = "file -rw-r----- text\nlink Lrwxrwxrwx -> /etc/passwd\nsub drwxr-x---\nsub/tool -rwxr-xr-x tool\nsub/twin -rw-r----- text"
	inside = "src drwxr-xr-x\nsrc/file -rw-r----- text\nsrc/link Lrwxrwxrwx -> /etc/passwd\nsrc/sub drwxr-x---\nsrc/sub/tool -rwxr-xr-x tool\nsrc/sub/twin -rw-r----- text"
)

// TestDirectories copies a directory in both directions.
func TestDirectories(t *testing.T) {
	upload := func(s *stage, src string, exclude []string) (string, error) {
		s.source(s.host + "/src")
		return s.root + "/dst", transfer.UploadDir(s.Context(), s.in, "/dst", s.host+src, exclude, &transfer.Uploads{})
	}
	download := func(s *stage, src string, exclude []string) (string, error) {
		s.source(s.root + "/src")
		return s.host + "/dst", transfer.DownloadDir(s.Context(), s.in, src, s.host+"/dst", exclude, transfer.Owner{})
	}
	for name, test := range map[string]struct {
		transfer func(s *stage, src string, exclude []string) (string, error)
		src      string
		exclude  []string
		want     string
		whole    string // the copy of the whole source in the destination
		err      string
	}{
		"up, itself":           {transfer: upload, src: "/src", want: inside, whole: "src"},
		"up, its content":      {transfer: upload, src: "/src/", want: copied, whole: "."},
		"up, with exclude":     {transfer: upload, src: "/src/", exclude: []string{"sub/", "li*"}, want: "file -rw-r----- text"},
		"up, a path below":     {transfer: upload, src: "/src/", exclude: []string{"sub/t*"}, want: "file -rw-r----- text\nlink Lrwxrwxrwx -> /etc/passwd\nsub drwxr-x---"},
		"up, a wrong pattern":  {transfer: upload, src: "/src/", exclude: []string{"["}, err: `exclude "["`},
		"up, a missing one":    {transfer: upload, src: "/missing", err: "no such file"},
		"up, a file":           {transfer: upload, src: "/src/file", err: "not a directory"},
		"down, itself":         {transfer: download, src: "/src", want: inside, whole: "src"},
		"down, its content":    {transfer: download, src: "/src/", want: copied, whole: "."},
		"down, with a pattern": {transfer: download, src: "/src/l*", want: "link Lrwxrwxrwx -> /etc/passwd"},
		"down, a missing one":  {transfer: download, src: "/missing", err: "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			dst, err := test.transfer(s, test.src, test.exclude)
			check(t, err, test.err)
			if err != nil {
				return
			}
			if got := s.tree(dst); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if test.whole != "" {
				s.checkFiles(filepath.Join(dst, test.whole))
			}
		})
	}
}

// checkFiles checks the time and the hard link of a copy of a whole source.
func (s *stage) checkFiles(dir string) {
	s.Helper()
	file, err := os.Stat(dir + "/file")
	s.must(err)
	twin, err := os.Stat(dir + "/sub/twin")
	s.must(err)
	if !file.ModTime().Equal(time.Unix(1_000_000_000, 0)) || !os.SameFile(file, twin) {
		s.Errorf("%s: the time is %v; a hard link: %v", dir, file.ModTime(), os.SameFile(file, twin))
	}
}

// TestSpecialFiles checks that a named pipe is an error, and is not opened.
func TestSpecialFiles(t *testing.T) {
	s := newStage(t)
	s.must(unix.Mkfifo(s.host+"/pipe", 0o600))
	check(t, transfer.UploadDir(t.Context(), s.in, "/", s.host+"/", nil, &transfer.Uploads{}), s.host+"/pipe")
}

// TestHoles checks that a copy of a sparse file takes no more space.
func TestHoles(t *testing.T) {
	s := newStage(t)
	f, err := os.Create(s.host + "/sparse")
	s.must(err)
	const size = 64 << 20
	_, err = f.WriteAt([]byte("end"), size-3)
	s.must(errors.Join(err, f.Close()))
	s.must(transfer.UploadDir(t.Context(), s.in, "/", s.host+"/", nil, &transfer.Uploads{}))
	var st unix.Stat_t
	s.must(unix.Stat(s.root+"/sparse", &st))
	if st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("the copy has %d bytes in %d blocks", st.Size, st.Blocks)
	}
}

// TestUploadsRemove removes unchanged uploads below the directories for temporary files only.
func TestUploadsRemove(t *testing.T) {
	s, uploads := newStage(t), &transfer.Uploads{}
	s.must(os.MkdirAll(s.root+"/tmp", 0o755))
	s.write(s.root+"/tmp/existed", "old", 0o600)
	for _, path := range []string{"/tmp/plain", "/tmp/a/b/deep", "/tmp/changed", "/tmp/replaced", "/tmp/existed", "/var/tmp/other", "/etc/kept"} {
		s.must(transfer.Upload(t.Context(), s.in, path, strings.NewReader("text"), transfer.NewFile{Mode: 0o600}, uploads))
	}
	s.write(s.root+"/tmp/changed", "longer text", 0o600)
	s.must(os.Remove(s.root + "/tmp/replaced"))
	s.write(s.root+"/tmp/replaced", "text", 0o600)
	s.must(uploads.Remove(t.Context(), s.in))
	for path, stays := range map[string]bool{
		"/tmp": true, "/tmp/plain": false, "/tmp/a": false, "/tmp/changed": true, "/tmp/replaced": true, "/tmp/existed": true, "/var/tmp/other": false, "/etc/kept": true,
	} {
		if _, err := os.Lstat(s.root + path); (err == nil) != stays {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestCopyNodes copies directories and links, but no regular file.
func TestCopyNodes(t *testing.T) {
	s := newStage(t)
	s.source(s.host + "/src")
	s.must(os.Mkdir(s.host+"/dst", 0o755))
	var st unix.Stat_t
	s.must(unix.Stat(s.host, &st))
	s.must(transfer.CopyNodes(s.host+"/src", s.host+"/dst", st.Dev))
	if got, want := s.tree(s.host+"/dst"), "link Lrwxrwxrwx -> /etc/passwd\nsub drwxr-x---"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	s.must(transfer.CopyNodes(s.host+"/missing", s.host+"/dst", st.Dev))
}
