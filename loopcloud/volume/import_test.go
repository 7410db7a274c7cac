//go:build linux

package volume_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
	"golang.org/x/sys/unix"
)

// rootOf creates a directory with every kind of file of a root file system.
func rootOf(t testing.TB) string {
	t.Helper()
	dir := testdir.New(t)
	must(t, os.Chmod(dir, 0o755))
	script := `
		mkdir -m 755 bin etc empty
		mkdir -m 1777 tmp
		echo '#!/bin/sh' >bin/su; chmod 4755 bin/su
		echo secret >etc/shadow; chmod 640 etc/shadow; chown 0:42 etc/shadow
		echo mine >etc/mine; chown 1000:1001 etc/mine
		touch -d 2001-02-03T04:05:06Z etc/mine
		ln -s ../bin/su etc/link; ln -s /nowhere etc/dangling; chown -h 7:8 etc/link
		ln bin/su bin/sudo
		mknod null c 1 3; mkfifo fifo
		: >'a name with
a newline and "quotes"'
		truncate -s 100M sparse; printf x | dd of=sparse conv=notrunc seek=50M bs=1 oflag=seek_bytes status=none`
	run(t, "", "env", "-C", dir, "sh", "-euc", script)
	must(t, unix.Lsetxattr(filepath.Join(dir, "bin/su"), "user.test", []byte("value"), 0))
	return dir
}

// describe returns the attributes of a tree that an import must preserve.
func describe(t testing.TB, dir string) map[string]string {
	t.Helper()
	tree := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		if name == "/lost+found" {
			return nil
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		text := fmt.Sprintf("mode %o owner %d:%d device %d", st.Mode, st.Uid, st.Gid, st.Rdev)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFLNK:
			target, err := os.Readlink(path)
			must(t, err)
			text += " to " + target
		case unix.S_IFREG:
			raw, err := os.ReadFile(path)
			must(t, err)
			value := make([]byte, 100)
			n, _ := unix.Lgetxattr(path, "user.test", value)
			text += fmt.Sprintf(" links %d time %d xattr %q content %d %q",
				st.Nlink, st.Mtim.Sec, value[:max(n, 0)], len(raw), bytes.Trim(raw, "\x00"))
		}
		tree[name] = text
		return nil
	}))
	return tree
}

// imported creates a disk from a source, and returns it and the tree of its root.
func imported(t testing.TB, src string, opts volume.ImportOptions) (file string, tree map[string]string) {
	t.Helper()
	file = filepath.Join(testdir.New(t), "disk.raw")
	must(t, volume.Import(t.Context(), src, file, opts))
	s := open(t, testdir.New(t), volume.Xen)
	must(t, s.ImportSnapshot("snap-1", file))
	must(t, s.CreateVolume("vol-1", 2*gib, "snap-1"))
	device := attach(t, s, "vol-1", "/dev/sdsa")
	run(t, "", "e2fsck", "-f", "-n", device+"1")
	dir, unmount := mount(t, device+"1")
	tree = describe(t, dir)
	unmount()
	must(t, s.DetachVolume("vol-1", false))
	return file, tree
}

func TestImportRoot(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := rootOf(t)
	want := describe(t, dir)
	archive := filepath.Join(testdir.New(t), "root.tar.gz")
	run(t, "", "tar", "--create", "--gzip", "--file", archive, "--directory", dir,
		"--sparse", "--xattrs", "--xattrs-include=*", ".")
	link := filepath.Join(testdir.New(t), "link")
	must(t, os.Symlink(dir, link))
	for name, src := range map[string]string{"directory": dir, "tar": archive, "link to a directory": link} {
		t.Run(name, func(t *testing.T) {
			file, got := imported(t, src, volume.ImportOptions{Label: "cloudimg"})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			if got := allocated(t, file); got > 10*mib {
				t.Errorf("the disk takes %d MiB", got/mib)
			}
			f, err := os.Open(file)
			must(t, err)
			defer f.Close()
			table, err := disk.ReadTable(f, gib, 512)
			must(t, err)
			wantPart := disk.Partition{Number: 1, Start: mib, Length: gib - mib, Type: "83", Bootable: true}
			if len(table.Partitions) != 1 {
				t.Fatalf("the table is %+v", table)
			}
			wantPart.GUID = table.Partitions[0].GUID
			if diff := cmp.Diff(disk.Table{Kind: disk.MBR, Partitions: []disk.Partition{wantPart}}, table); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
			if got := run(t, "", "blkid", "-O", "1048576", "-p", "-o", "value", "-s", "LABEL", file); got != "cloudimg" {
				t.Errorf("the label is %q", got)
			}
			expectFiles(t, filepath.Dir(file), "disk.raw")
		})
	}
}

// TestImportHostileTar checks that nothing is written outside the directory.
func TestImportHostileTar(t *testing.T) {
	testroot.Need(t, "real block devices")
	victim := testdir.New(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(name, link, content string) {
		h := &tar.Header{Name: name, Linkname: link, Size: int64(len(content)), Mode: 0o644, ModTime: time.Now()}
		if link != "" {
			h.Typeflag = tar.TypeSymlink
		}
		must(t, w.WriteHeader(h))
		_, err := w.Write([]byte(content))
		must(t, err)
	}
	add("way", victim, "")
	add("way/through", "", "evil")
	must(t, w.Close())
	archive := filepath.Join(testdir.New(t), "root.tar")
	must(t, os.WriteFile(archive, b.Bytes(), 0o600))
	dst := filepath.Join(testdir.New(t), "disk.raw")
	_ = volume.Import(t.Context(), archive, dst, volume.ImportOptions{}) // it may fail
	expectFiles(t, victim)
}

func TestImportSizes(t *testing.T) {
	testroot.Need(t, "real block devices")
	small := testdir.New(t)
	must(t, os.WriteFile(filepath.Join(small, "file"), []byte("x"), 0o600))
	large := testdir.New(t)
	run(t, "", "fallocate", "-l", "900M", filepath.Join(large, "file")) // takes space without writing
	raw := filepath.Join(testdir.New(t), "raw")
	must(t, os.WriteFile(raw, make([]byte, 10*mib), 0o600))
	tests := []struct {
		name string
		src  string
		opts volume.ImportOptions
		want int64
	}{
		{"small", small, volume.ImportOptions{}, 1},
		{"small on a large disk", small, volume.ImportOptions{SizeGiB: 5}, 5},
		{"more than a GiB with its room", large, volume.ImportOptions{}, 2},
		{"raw", raw, volume.ImportOptions{}, 1},
		{"raw on a large disk", raw, volume.ImportOptions{SizeGiB: 3}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dst := filepath.Join(testdir.New(t), "disk.raw")
			must(t, volume.Import(t.Context(), tt.src, dst, tt.opts))
			info, err := os.Stat(dst)
			must(t, err)
			if info.Size() != tt.want*gib {
				t.Errorf("the disk has %d bytes; want %d GiB", info.Size(), tt.want)
			}
			if tt.src == raw && allocated(t, dst) > 0 {
				t.Errorf("zeros take %d bytes", allocated(t, dst))
			}
		})
	}
	dst := filepath.Join(testdir.New(t), "disk.raw")
	run(t, "", "fallocate", "-l", "200M", filepath.Join(large, "more"))
	wantError(t, volume.Import(t.Context(), large, dst, volume.ImportOptions{SizeGiB: 1}), nil, "does not fit into 1 GiB")
	expectFiles(t, filepath.Dir(dst))
}

func TestImportRefused(t *testing.T) {
	dir := testdir.New(t)
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte(content+strings.Repeat("\x00", 1024-len(content))), 0o600))
		return path
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	exists := file("exists", "")
	import1 := func(ctx context.Context, src string, opts volume.ImportOptions) error {
		return volume.Import(ctx, src, filepath.Join(dir, "disk.raw"), opts)
	}
	tests := []struct {
		name   string
		err    error
		target error
		says   string
	}{
		{"nothing there", import1(t.Context(), dir+"/none", volume.ImportOptions{}), fs.ErrNotExist, dir + "/none"},
		{"empty", import1(t.Context(), "/dev/null", volume.ImportOptions{}), nil, "0 bytes"},
		{"qcow2", import1(t.Context(), file("qcow2", "QFI\xfb"), volume.ImportOptions{}), nil, "qemu-img convert"},
		{"vmdk", import1(t.Context(), file("vmdk", "KDMV"), volume.ImportOptions{}), nil, "vmdk image"},
		{"broken gzip", import1(t.Context(), file("gz", "\x1f\x8bnonsense"), volume.ImportOptions{}), nil, "tar: "},
		{"destination exists", volume.Import(t.Context(), testdir.New(t), exists, volume.ImportOptions{}), fs.ErrExist, exists},
		{"cancelled", import1(cancelled, testdir.New(t), volume.ImportOptions{}), context.Canceled, ""},
		{"label too long", import1(t.Context(), testdir.New(t), volume.ImportOptions{Label: strings.Repeat("x", 17)}), nil, "label"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { wantError(t, tt.err, tt.target, tt.says) })
	}
	if _, err := os.Stat(filepath.Join(dir, "disk.raw")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a disk is left")
	}
}

// BenchmarkImport imports a root of about 5 MB.
func BenchmarkImport(b *testing.B) {
	dir := testdir.New(b)
	for i := range 50 {
		must(b, os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), bytes.Repeat([]byte{byte(i + 1)}, 100_000), 0o600))
	}
	dst := filepath.Join(testdir.New(b), "disk.raw")
	for b.Loop() {
		must(b, volume.Import(b.Context(), dir, dst, volume.ImportOptions{}))
		must(b, os.Remove(dst))
	}
}
