package chroot_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// race exchanges two names until the test's part is over.
func race(t *testing.T, a, b string) (stop func()) {
	t.Helper()
	var racing sync.WaitGroup
	end := make(chan struct{})
	racing.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	})
	return func() { close(end); racing.Wait() }
}

// bounded returns a context with a time limit, and fails the test if that ends it.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Error("it took a minute")
		}
		cancel()
	})
	return ctx
}

// TestRacingLinks swaps a directory of the image for links that point outside of it, while
// files are copied to and from that directory.
func TestRacingLinks(t *testing.T) {
	for name, to := range map[string]string{"absolute": "", "relative": strings.Repeat("../", 40)} {
		t.Run(name, func(t *testing.T) {
			outside := testdir.New(t)
			write(t, outside+"/sub/file", "secret", 0o600)
			want := listing(t, outside)
			m := tiny(t, nil)
			write(t, m.Path()+"/desk/dir/sub/file", "public", 0o644)
			link(t, to+outside, m.Path()+"/desk/swap")
			src := testdir.New(t)
			write(t, src+"/dir/sub/file", "uploaded", 0o644)
			write(t, src+"/dir/sub/new", "uploaded", 0o644)
			ctx, dst := bounded(t), testdir.New(t)
			stop := race(t, m.Path()+"/desk/dir", m.Path()+"/desk/swap")
			failed := 0
			for range 200 {
				var got bytes.Buffer
				for _, err := range []error{
					upload(t, m, "/desk/dir/sub/file", "uploaded", 0o644),
					m.UploadDir(ctx, "/desk", src+"/dir", nil),
					m.UploadDir(ctx, "/desk/dir", src+"/dir/", nil),
					m.Download(ctx, "/desk/dir/sub/file", &got),
					m.DownloadDir(ctx, "/desk/dir/", dst, nil),
					m.DownloadDir(ctx, "/desk", dst, nil),
				} {
					if err != nil {
						failed++
						if !strings.Contains(err.Error(), "/desk") {
							t.Errorf("the error names no path: %v", err)
						}
					}
				}
				if strings.Contains(got.String(), "secret") {
					t.Fatal("the host's file was downloaded")
				}
			}
			stop()
			t.Logf("%d copies met a link and failed", failed)
			if diff := cmp.Diff(want, listing(t, outside)); diff != "" {
				t.Errorf("outside (-want +got):\n%s", diff)
			}
			noSecret(t, dst)
		})
	}
}

func noSecret(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && read(t, path) == "secret" {
			t.Errorf("the host's file was downloaded to %s", path)
		}
		return nil
	})
}

// TestRacingMkdir puts links in the place of directories as soon as they are created:
// their targets must not get the mode of a new directory.
func TestRacingMkdir(t *testing.T) {
	outside := testdir.New(t)
	if err := os.Chmod(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	m := tiny(t, nil)
	work, spare := m.Path()+"/desk", m.Path()+"/spare"
	write(t, work+"/file", "", 0o644)
	link(t, outside, spare)
	stop := race(t, work+"/new", spare)
	for range 3000 {
		_ = upload(t, m, "/desk/new/file", "x", 0o644)
		_ = remove.All(work + "/new")
		if fi, err := os.Lstat(spare); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			_ = remove.All(spare)
			_ = os.Symlink(outside, spare)
		}
	}
	stop()
	if st := stat(t, outside); st.Mode&0o777 != 0o700 || len(listing(t, outside)) > 0 {
		t.Errorf("outside has the mode %o, and holds %v", st.Mode, listing(t, outside))
	}
}

// TestRacingNodes swaps a file for a pipe, which would block for ever, and for a
// block device, which would be written to.
func TestRacingNodes(t *testing.T) {
	backing := disk(t, 1)
	var device unix.Stat_t
	if err := unix.Stat(loop(t, backing), &device); err != nil {
		t.Fatal(err)
	}
	for name, node := range map[string]func(path string) error{
		"pipe":   func(path string) error { return unix.Mkfifo(path, 0o600) },
		"device": func(path string) error { return unix.Mknod(path, unix.S_IFBLK|0o600, int(device.Rdev)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, nil)
			write(t, m.Path()+"/desk/file", "public", 0o644)
			if err := node(m.Path() + "/swap"); err != nil {
				t.Fatal(err)
			}
			src := testdir.New(t)
			write(t, src+"/file", "uploaded", 0o644)
			ctx, dst := bounded(t), testdir.New(t)
			stop := race(t, m.Path()+"/desk/file", m.Path()+"/swap")
			for range 200 {
				for _, err := range []error{
					upload(t, m, "/desk/file", "uploaded", 0o644),
					m.UploadDir(ctx, "/desk", src+"/", nil),
					m.Download(ctx, "/desk/file", io.Discard),
					m.DownloadDir(ctx, "/desk", dst, nil),
				} {
					if err != nil && !strings.Contains(err.Error(), "/desk/file") {
						t.Errorf("the error names no path: %v", err)
					}
				}
			}
			stop()
		})
	}
	unix.Sync()
	if raw := read(t, backing); strings.Trim(raw, "\x00") != "" {
		t.Error("the device was written to")
	}
}

// TestSpecialFilesInPlaceOfFiles writes to and reads from paths of directories, devices, pipes and
// sockets.
func TestSpecialFilesInPlaceOfFiles(t *testing.T) {
	m := tiny(t, nil)
	dir := m.Path() + "/desk/"
	write(t, dir+"ok", "", 0o644)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mkfifo(dir+"pipe", 0o600))
	must(unix.Mknod(dir+"char", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	must(unix.Mknod(dir+"block", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 200))))
	must(os.Mkdir(dir+"directory", 0o755))
	socket, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", dir+"socket")
	must(err)
	defer socket.Close()
	ctx := bounded(t)
	for name, kind := range map[string]string{
		"pipe": "a named pipe", "char": "a device", "block": "a device", "directory": "a directory", "socket": "a socket",
	} {
		src := testdir.New(t)
		write(t, src+"/"+name, "x", 0o644)
		says(t, m.UploadDir(ctx, "/desk", src+"/", nil), "/desk/"+name, kind)
		says(t, upload(t, m, "/desk/"+name, "x", 0o644), "/desk/"+name, kind)
		says(t, m.Download(ctx, "/desk/"+name, io.Discard), "/desk/"+name, kind)
		if name != "directory" {
			says(t, m.DownloadDir(ctx, "/desk/"+name[:1]+"*", testdir.New(t), nil), "/desk/"+name, kind)
		}
		// and a file in the place of a directory
		other := testdir.New(t)
		write(t, other+"/"+name+"/below", "x", 0o644)
		if err := m.UploadDir(ctx, "/desk", other+"/", nil); name != "directory" {
			says(t, err, "/desk/"+name, "not a directory")
		}
	}
	write(t, testdir.New(t)+"/x", "", 0o644)
	other := testdir.New(t)
	write(t, other+"/ok/below", "x", 0o644)
	says(t, m.UploadDir(ctx, "/desk", other+"/", nil), "/desk/ok", "not a directory")
}

// TestUnusualFileNames uses every kind of name, one by one and in a directory.
func TestUnusualFileNames(t *testing.T) {
	m := tiny(t, nil)
	src := testdir.New(t)
	for _, name := range []string{
		"a space", " leading", "trailing ", "'single'", `"double"`, "$HOME", "`id`", "new\nline", "tab\t", `back\slash`, "-rf", "*", "[a]",
		"\xff\xfe not utf-8", "ünïcode", "\x01", strings.Repeat("x", 255), "...", "{{.Device}}", "%s", "a;b|c&d",
	} {
		write(t, src+"/"+name, "in "+name, 0o644)
		path := "/dir " + name + "/" + name
		if len(path) > 255 {
			path = "/" + name
		}
		if err := upload(t, m, path, "content of "+name, 0o640); err != nil {
			t.Error(err)
			continue
		}
		var got bytes.Buffer
		if err := m.Download(t.Context(), path, &got); err != nil || got.String() != "content of "+name || read(t, m.Path()+path) != got.String() {
			t.Errorf("%q holds %q, %v", path, &got, err)
		}
	}
	if err := m.UploadDir(t.Context(), "/all", src+"/", nil); err != nil {
		t.Fatal(err)
	}
	dst := testdir.New(t)
	if err := m.DownloadDir(t.Context(), "/all/", dst, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(listing(t, src), listing(t, dst)); diff != "" {
		t.Errorf("there and back (-want +got):\n%s", diff)
	}
}

// FuzzPathsStayInside passes any path to every operation, in an image whose links point
// outside of it. The host's file must be neither changed nor read.
func FuzzPathsStayInside(f *testing.F) {
	for _, path := range []string{"/out/canary", "out/../out/canary", "/up/canary", "//file", "/loop/x", "/etc/./../out", "", "/", "x/", "\x00", "/dangling/x", "*"} {
		f.Add(path)
	}
	testroot.Need(f, "mounting")
	outside, dir := testdir.New(f), testdir.New(f)
	canary := filepath.Join(outside, "canary")
	if err := os.WriteFile(canary, []byte("secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	k, err := chroot.Start(chroot.Options{})
	if err != nil {
		f.Fatal(err)
	}
	m, err := k.Mount(f.Context(), chroot.MountSpec{Device: "tmpfs", Type: "tmpfs", Path: dir + "/root", Options: []string{"size=16m"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := k.Leave(context.Background(), dir+"/root"); err != nil {
			f.Error(err)
		}
	})
	for name, to := range map[string]string{
		"out": outside, "file": canary, "up": strings.Repeat("../", 30) + outside, "loop": "loop", "dangling": outside + "/none",
	} {
		if err := os.Symlink(to, dir+"/root/"+name); err != nil {
			f.Fatal(err)
		}
	}
	src := testdir.New(f)
	if err := os.WriteFile(src+"/canary", []byte("overwritten"), 0o644); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		var got bytes.Buffer
		dst := testdir.New(t)
		_ = m.Download(t.Context(), path, &got)
		_ = m.DownloadDir(t.Context(), path, dst, nil)
		_ = m.Upload(t.Context(), path, strings.NewReader("overwritten"), chroot.NewFile{Mode: 0o600})
		_ = m.UploadDir(t.Context(), path, src+"/", nil)
		noSecret(t, dst)
		names, err := os.ReadDir(outside)
		if got.String() == "secret" || read(t, canary) != "secret" || err != nil || len(names) != 1 {
			t.Errorf("%q leads outside: read %q, %v, %v", path, &got, names, err)
		}
		emptied(t, m.Path())
	})
}

// emptied removes everything that a fuzzed path has created, except the links.
func emptied(t *testing.T, root string) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 {
			_ = remove.All(filepath.Join(root, e.Name()))
		}
	}
}
