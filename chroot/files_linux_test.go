package chroot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func upload(t *testing.T, m *chroot.MountedRoot, dst, content string, mode os.FileMode) error {
	t.Helper()
	return m.Upload(t.Context(), dst, strings.NewReader(content), chroot.NewFile{Mode: mode})
}

func TestUploadAndDownload(t *testing.T) {
	m := tiny(t, nil)
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	for path, mode := range map[string]os.FileMode{
		"/tmp/plain": 0o644, "/with space/and 'quotes'": 0o600, "/a/b/c/new": 0o755, "/tmp/../tmp/up": 0o4755 &^ 0o4000, "relative": 0o640,
	} {
		if err := upload(t, m, path, "content of "+path, mode); err != nil {
			t.Error(err)
			continue
		}
		info, err := os.Stat(filepath.Join(m.Path(), path))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s is %v, %v, want %v", path, info, err, mode)
		}
		var back bytes.Buffer
		if err := m.Download(t.Context(), path, &back); err != nil || back.String() != "content of "+path {
			t.Errorf("%s came back as %q, %v", path, &back, err)
		}
	}
	if info, err := os.Stat(filepath.Join(m.Path(), "a/b")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("directories are made as %v, %v", info, err)
	}
}

func TestUploadRefuses(t *testing.T) {
	m := tiny(t, nil)
	if err := unix.Mkfifo(m.Path()+"/tmp/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for path, why := range map[string]string{
		"/etc": "a directory", "/etc/": "directory", "/dev/null": "a device", "/tmp/pipe": "a named pipe", "/bin/busybox/x": "not a directory",
	} {
		says(t, upload(t, m, path, "x", 0o644), path, why)
	}
	for path, why := range map[string]string{"/etc": "a directory", "/dev/null": "a device", "/tmp/pipe": "a named pipe", "/none": "no such file"} {
		says(t, m.Download(t.Context(), path, io.Discard), path, why)
	}
}

// TestFilesStayInside gives an image links that point outside of it. No file of the host may
// be written or read, and the links must be resolved as in the chroot.
func TestFilesStayInside(t *testing.T) {
	outside := testdir.New(t)
	canary := filepath.Join(outside, "canary")
	for name, to := range map[string]string{
		"an absolute link":      outside,
		"a relative link":       strings.Repeat("../", 40) + outside,
		"a link by way of proc": "/proc/self/root" + outside,
		"a link to a link":      "/second",
	} {
		t.Run(name, func(t *testing.T) {
			write(t, canary, "untouched", 0o600)
			m := tiny(t, nil)
			link(t, outside, m.Path()+"/second")
			link(t, to, m.Path()+"/evil")
			link(t, to+"/canary", m.Path()+"/evilfile")
			if err := m.MountBelow(t.Context(), chroot.Submount{Type: "proc", Source: "proc", Target: "/proc"}); err != nil {
				t.Fatal(err)
			}
			src := testdir.New(t)
			write(t, filepath.Join(src, "canary"), "overwritten", 0o644)

			for _, path := range []string{"/evil/canary", "/evilfile", "/evil/new", "/evil/../" + canary, "/proc/self/root" + canary, "/proc/1/root" + canary, "/proc/self/cwd/canary"} {
				t.Log(upload(t, m, path, "overwritten", 0o644))
				var got bytes.Buffer
				if err := m.Download(t.Context(), path, &got); err == nil && got.String() == "untouched" {
					t.Errorf("%s leads to the host's file", path)
				}
			}
			for _, path := range []string{"/evil", "/evil/", "/evilfile"} {
				t.Log(m.UploadDir(t.Context(), path, src+"/", nil))
				dst := testdir.New(t)
				if err := m.DownloadDir(t.Context(), path, dst, nil); err == nil {
					_ = filepath.WalkDir(dst, func(path string, _ fs.DirEntry, _ error) error {
						if raw, _ := os.ReadFile(path); string(raw) == "untouched" {
							t.Errorf("the host's file was downloaded to %s", path)
						}
						return nil
					})
				}
			}
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) != 1 || read(t, canary) != "untouched" {
				t.Errorf("the host holds %v, %q, %v", entries, read(t, canary), err)
			}
		})
	}
}

// TestLinksAreResolvedInTheRoot uses the links that real images have.
func TestLinksAreResolvedInTheRoot(t *testing.T) {
	m := tiny(t, nil)
	if err := os.MkdirAll(m.Path()+"/run/deep", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(m.Path()+"/var", 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "/run", m.Path()+"/var/run")
	link(t, "../run/deep/file", m.Path()+"/etc/dangling")
	for path, where := range map[string]string{"/var/run/file": "/run/file", "/etc/dangling": "/run/deep/file"} {
		if err := upload(t, m, path, path, 0o644); err != nil {
			t.Error(err)
		} else if got := read(t, m.Path()+where); got != path {
			t.Errorf("%s holds %q", where, got)
		}
	}
	src := testdir.New(t)
	write(t, src+"/sub/file", "x", 0o644)
	if err := m.UploadDir(t.Context(), "/var/run", src+"/", nil); err != nil || !exists(m.Path()+"/run/sub/file") {
		t.Error(err)
	}
}

// listing describes a tree: path, mode, and content or the target of a link.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			text += " " + read(t, path)
		case info.Mode()&os.ModeSymlink != 0:
			to, _ := os.Readlink(path)
			text = "-> " + to
		}
		all[strings.TrimPrefix(path, dir+"/")] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// sample is a tree with something of everything.
func sample(t *testing.T, dir string) {
	t.Helper()
	write(t, dir+"/a file", "one", 0o640)
	write(t, dir+"/run.sh", "two", 0o755)
	write(t, dir+"/sub/.hidden", "three", 0o600)
	write(t, dir+"/sub/deep/x\xff", "four", 0o400)
	for path, mode := range map[string]os.FileMode{"/empty": 0o711, "/sticky": 0o777 | os.ModeSticky} {
		if err := os.Mkdir(dir+path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir+path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir+"/run.sh", 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	link(t, "a file", dir+"/link")
	link(t, "/etc/passwd", dir+"/sub/absolute")
	link(t, "nowhere", dir+"/dangling")
}

func TestUploadAndDownloadDirectories(t *testing.T) {
	m := tiny(t, nil)
	src := filepath.Join(testdir.New(t), "tree")
	sample(t, src)
	want := listing(t, src)
	tests := []struct{ dst, src, lands string }{
		{"/new/place", src + "/", "/new/place"},
		{"/named", src, "/named/tree"},
		{"/named/", src, "/named/tree"},
		{"/dotted", src + "/.", "/dotted"},
	}
	for _, test := range tests {
		for range 2 { // the second time everything is there
			if err := m.UploadDir(t.Context(), test.dst, test.src, nil); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, listing(t, m.Path()+test.lands)); diff != "" {
			t.Errorf("upload of %s to %s (-want +got):\n%s", test.src, test.dst, diff)
		}
	}
	host := testdir.New(t)
	for _, test := range []struct{ dst, src, lands string }{
		{host + "/content", "/new/place/", host + "/content"},
		{host + "/below", "/named/tree", host + "/below/tree"},
		{host + "/all", "/named/*", host + "/all/tree"},
	} {
		for range 2 {
			if err := m.DownloadDir(t.Context(), test.src, test.dst, nil); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, listing(t, test.lands)); diff != "" {
			t.Errorf("download of %s to %s (-want +got):\n%s", test.src, test.dst, diff)
		}
	}
}

func TestDirectoriesThatAreThereKeepTheirMode(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	write(t, src+"/etc/new", "", 0o644)
	if err := os.Chmod(src+"/etc", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.UploadDir(t.Context(), "/", src+"/", nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", "/etc"} {
		if info, err := os.Stat(m.Path() + path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s/ is %v, %v", path, info.Mode(), err)
		}
	}
}

func TestDownloadByPattern(t *testing.T) {
	m := tiny(t, nil)
	for _, name := range []string{"a.log", "b.log", "c.txt"} {
		write(t, m.Path()+"/var/log/"+name, name, 0o644)
	}
	dst := testdir.New(t)
	if err := m.DownloadDir(t.Context(), "/var/log/*.log", dst, []string{"b*"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a.log": "-rw-r--r-- a.log"}, listing(t, dst)); diff != "" {
		t.Errorf("downloaded (-want +got):\n%s", diff)
	}
	says(t, m.DownloadDir(t.Context(), "/var/log/*.none", dst, nil), "*.none", "not exist")
	says(t, m.DownloadDir(t.Context(), "/var/log/[", dst, nil), "[", "syntax error")
}

func TestExclude(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	for _, path := range []string{"keep", "skip.tmp", "sub/skip.tmp", "sub/keep", "cache/x/y", "sub/cache"} {
		write(t, filepath.Join(src, path), "", 0o644)
	}
	exclude := []string{"*.tmp", "cache/x", "sub/cache"}
	want := map[string]string{"keep": "-rw-r--r-- ", "sub": "drwxr-xr-x", "sub/keep": "-rw-r--r-- ", "cache": "drwxr-xr-x"}
	if err := m.UploadDir(t.Context(), "/up", src+"/", exclude); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, listing(t, m.Path()+"/up")); diff != "" {
		t.Errorf("uploaded (-want +got):\n%s", diff)
	}
	says(t, m.UploadDir(t.Context(), "/up", src, []string{"["}), "exclude", "syntax error")
}

func TestDirectoriesRefuse(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	if err := unix.Mkfifo(src+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, m.UploadDir(t.Context(), "/up", src, nil), "pipe", "a named pipe")
	says(t, m.UploadDir(t.Context(), "/up", src+"/none", nil), src+"/none", "no such file")
	says(t, m.UploadDir(t.Context(), "/bin/busybox", src, nil), "/bin/busybox", "not a directory")
	says(t, m.DownloadDir(t.Context(), "/none", testdir.New(t), nil), "/none", "no such file")
	says(t, m.DownloadDir(t.Context(), "/dev/", testdir.New(t), nil), "null", "a device")
	write(t, src+"/in the way", "", 0o644)
	says(t, m.DownloadDir(t.Context(), "/etc", src+"/in the way", nil), "in the way")
	write(t, m.Path()+"/up/x/file", "", 0o644)
	other := testdir.New(t)
	link(t, "nowhere", other+"/x")
	says(t, m.UploadDir(t.Context(), "/up", other+"/", nil), "x", "file exists")
}

// TestDownloadStaysInItsDirectory downloads links, and then files in their place.
func TestDownloadStaysInItsDirectory(t *testing.T) {
	m := tiny(t, nil)
	outside, dst := testdir.New(t), testdir.New(t)
	write(t, outside+"/canary", "untouched", 0o600)
	link(t, outside, dst+"/dir")
	link(t, outside+"/canary", dst+"/file")
	write(t, m.Path()+"/src/file", "new", 0o644)
	if err := m.DownloadDir(t.Context(), "/src/", dst, nil); err != nil || read(t, dst+"/file") != "new" {
		t.Errorf("a file in the place of a link: %v", err)
	}
	write(t, m.Path()+"/src/dir/canary", "overwritten", 0o644)
	if err := m.DownloadDir(t.Context(), "/src/", dst, nil); err == nil {
		t.Error("a directory was written through a link")
	}
	if read(t, outside+"/canary") != "untouched" {
		t.Error("the host's file is overwritten")
	}
}

func TestCancelledCopies(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	write(t, src+"/file", "x", 0o644)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"upload":       m.Upload(ctx, "/tmp/x", strings.NewReader("x"), chroot.NewFile{Mode: 0o644}),
		"download":     m.Download(ctx, "/bin/busybox", io.Discard),
		"upload dir":   m.UploadDir(ctx, "/tmp", src, nil),
		"download dir": m.DownloadDir(ctx, "/bin", testdir.New(t), nil),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCopyInAndPutBack covers the state before, the changes of provisioners, and the
// state afterwards.
func TestCopyInAndPutBack(t *testing.T) {
	hostFile := filepath.Join(testdir.New(t), "resolv.conf")
	write(t, hostFile, "of the host", 0o644)
	const during = "-rw-r--r-- of the host"
	tests := []struct {
		name          string
		before, while func(t *testing.T, path string)
		after         map[string]string
	}{
		{name: "nothing was there", after: map[string]string{}},
		{
			name:   "a file was there",
			before: func(t *testing.T, path string) { write(t, path, "of the image", 0o640) },
			after:  map[string]string{"resolv.conf": "-rw-r----- of the image"},
		},
		{
			name:   "a link was there",
			before: func(t *testing.T, path string) { link(t, "../run/stub-resolv.conf", path) },
			after:  map[string]string{"resolv.conf": "-> ../run/stub-resolv.conf"},
		},
		{
			name:   "changed meanwhile",
			before: func(t *testing.T, path string) { write(t, path, "of the image", 0o640) },
			while:  func(t *testing.T, path string) { write(t, path, "wanted", 0o644) },
			after:  map[string]string{"resolv.conf": "-rw-r--r-- wanted"},
		},
		{
			name:  "made a link meanwhile",
			while: func(t *testing.T, path string) { _ = os.Remove(path); link(t, "elsewhere", path) },
			after: map[string]string{"resolv.conf": "-> elsewhere"},
		},
		{
			name:   "removed meanwhile",
			before: func(t *testing.T, path string) { link(t, "stub", path) },
			while:  func(_ *testing.T, path string) { _ = os.Remove(path) },
			after:  map[string]string{},
		},
		{
			name:  "removed with its directory",
			while: func(_ *testing.T, path string) { _ = remove.All(filepath.Dir(path)) },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := tiny(t, nil)
			path := m.Path() + hostFile
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if test.before != nil {
				test.before(t, path)
			}
			if err := m.CopyIn(t.Context(), hostFile); err != nil {
				t.Fatal(err)
			}
			if got := listing(t, filepath.Dir(path))["resolv.conf"]; got != during {
				t.Errorf("while building: %q", got)
			}
			if test.while != nil {
				test.while(t, path)
			}
			for range 2 { // the second call does nothing
				if err := m.PutBack(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if test.after == nil {
				return
			}
			if diff := cmp.Diff(test.after, listing(t, filepath.Dir(path))); diff != "" {
				t.Errorf("after building (-want +got):\n%s", diff)
			}
		})
	}
}

// TestCopyInStaysInside replaces the file in the image, and its directory, by links to other
// places.
func TestCopyInStaysInside(t *testing.T) {
	src, outside := testdir.New(t), testdir.New(t)
	write(t, src+"/file", "of the host", 0o644)
	for _, links := range []map[string]string{{src: outside}, {src: strings.Repeat("../", 40) + outside}, {src + "/file": outside + "/file"}} {
		m := tiny(t, nil)
		for path, to := range links {
			if err := os.MkdirAll(m.Path()+filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			link(t, to, m.Path()+path)
		}
		t.Log(m.CopyIn(t.Context(), src+"/file"))
		if err := m.PutBack(t.Context()); err != nil {
			t.Error(err)
		}
		if got := listing(t, outside); len(got) > 0 || read(t, src+"/file") != "of the host" {
			t.Errorf("outside: %v", got)
		}
	}
}

func TestCopyInTwice(t *testing.T) {
	hostFile := filepath.Join(testdir.New(t), "hosts")
	write(t, hostFile, "of the host", 0o644)
	m := tiny(t, nil)
	path := m.Path() + hostFile
	write(t, path, "of the image", 0o600)
	for range 2 {
		if err := m.CopyIn(t.Context(), hostFile); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.PutBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"hosts": "-rw------- of the image"}, listing(t, filepath.Dir(path))); diff != "" {
		t.Errorf("after building (-want +got):\n%s", diff)
	}
}

func TestCopyInRefuses(t *testing.T) {
	m := tiny(t, nil)
	hostFile := filepath.Join(testdir.New(t), "file")
	write(t, hostFile, "", 0o644)
	if err := os.MkdirAll(m.Path()+hostFile, 0o755); err != nil {
		t.Fatal(err)
	}
	says(t, m.CopyIn(t.Context(), hostFile), hostFile, "directory")
	says(t, m.CopyIn(t.Context(), hostFile+".none"), hostFile+".none")
	if err := m.PutBack(t.Context()); err != nil {
		t.Error(err)
	}
}
