//go:build linux

package volume

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// ImportOptions describes the disk to create.
type ImportOptions struct {
	// SizeGiB is the size of the disk; 0 is the smallest size with some free space.
	SizeGiB int64
	// Label is the label of the root file system; empty means "root". A raw disk keeps its label.
	Label string
}

const (
	gib = 1 << 30
	// partitionStart is the start of the partition, as in current partitioning tools.
	partitionStart = 1 << 20
	// maxLabel is the largest length of an ext4 label, in bytes.
	maxLabel = 16
)

// Import writes a sparse raw disk to dst, which must not exist. The source is one of:
//
//   - a directory: the root file system. The disk has an MBR with one bootable
//     partition of ext4. Owners, modes, devices, links and extended attributes are
//     preserved. Nothing is mounted.
//   - a tar archive, compressed or not, of such a directory; this needs root.
//   - a raw disk, which is copied unchanged; only its size is rounded up to GiB.
//
// A directory or tar archive needs mkfs.ext4 (Debian's package e2fsprogs).
func Import(ctx context.Context, src, dst string, opts ImportOptions) error {
	err := create(dst, func(f *os.File) error {
		if err := importTo(ctx, f, src, opts); err != nil {
			return err
		}
		return ctx.Err() // copying a raw disk does not check the context
	})
	if err != nil {
		return fmt.Errorf("cannot make a disk of %s: %w", src, err)
	}
	return nil
}

func importTo(ctx context.Context, f *os.File, src string, opts ImportOptions) error {
	kind, err := kindOf(src)
	switch {
	case err != nil:
		return err
	case kind == "directory":
		return importRoot(ctx, f, src, opts)
	case kind == "tar":
		return importTar(ctx, f, src, opts)
	default:
		return copyRaw(f, src, opts.SizeGiB*gib)
	}
}

// magics identify the kind of a source by its first bytes. A compressed file is assumed to be a compressed tar archive.
var magics = []struct {
	at    int
	magic string
	kind  string
}{
	{257, "ustar", "tar"},
	{0, "\x1f\x8b", "tar"},
	{0, "BZh", "tar"},
	{0, "\xfd7zXZ\x00", "tar"},
	{0, "\x28\xb5\x2f\xfd", "tar"},
	{0, "QFI\xfb", "qcow2"},
	{0, "KDMV", "vmdk"},
	{0, "conectix", "vpc"},
	{0, "vhdxfile", "vhdx"},
	{0, "<<< ", "vdi"},
}

// kindOf returns the kind of a source: directory, tar or raw. It returns an error for a disk in
// another format.
func kindOf(src string) (string, error) {
	f, err := os.Open(src)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return "", err
	} else if info.IsDir() {
		return "directory", nil
	}
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	for _, m := range magics {
		if !bytes.HasPrefix(head[min(m.at, n):n], []byte(m.magic)) {
			continue
		}
		if m.kind != "tar" {
			return "", fmt.Errorf("it is a %s image, not a raw disk; convert it with qemu-img convert -O raw", m.kind)
		}
		return m.kind, nil
	}
	return "raw", nil
}

// copyRaw copies a raw disk into an empty file. The size is a whole number of GiB, and at least
// this one.
func copyRaw(out *os.File, src string, size int64) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	length, err := in.Seek(0, io.SeekEnd)
	switch {
	case err != nil:
		return err
	case length == 0 || length%512 != 0:
		return fmt.Errorf("its size of %d bytes is not that of a disk", length)
	case size != 0 && size < length:
		return fmt.Errorf("it has %d bytes, more than %d", length, size)
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		err := eachData(in, length, func(at, end int64) error { return copyWith(writeNonZero, out, in, at, end) })
		if err != nil {
			return err
		}
	}
	return out.Truncate(roundUp(max(size, length), gib))
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// importTar unpacks an archive beside the new disk, where there is space for it.
func importTar(ctx context.Context, f *os.File, src string, opts ImportOptions) (err error) {
	if os.Geteuid() != 0 {
		return fmt.Errorf("unpacking a root file system with its owners and devices needs root: %w", fs.ErrPermission)
	}
	tar, err := tool("tar", "tar")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(f.Name()), unfinished+"root-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove.All(dir)) }()
	if err := os.Chmod(dir, 0o755); err != nil { // for an archive without an entry for the root
		return err
	}
	// GNU tar creates links last, so that nothing is written through a link.
	err = run(ctx, tar, "--extract", "--file", src, "--directory", dir,
		"--numeric-owner", "--same-owner", "--same-permissions", "--xattrs", "--xattrs-include=*")
	if err != nil {
		return err
	}
	return importRoot(ctx, f, dir, opts)
}

// importRoot creates a partitioned disk from a directory.
func importRoot(ctx context.Context, f *os.File, dir string, opts ImportOptions) error {
	content, err := measure(ctx, dir)
	if err != nil {
		return err
	}
	size := opts.SizeGiB * gib
	switch {
	case size == 0:
		size = content.diskSize()
	case size < content.bytes:
		return fmt.Errorf("the content of %d MiB does not fit into %d GiB", content.bytes>>20, opts.SizeGiB)
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	if err := writeMBR(f, size); err != nil {
		return err
	}
	return makeFileSystem(ctx, f.Name(), dir, size-partitionStart, content, opts.Label)
}

// content is the size of a directory's content.
type content struct{ bytes, files int64 }

// diskSize returns a size with space for the content, the file system's own data (inodes,
// journal, blocks reserved for root) and a little more.
func (c content) diskSize() int64 {
	return roundUp(c.bytes+c.bytes/5+c.files*512+128<<20, gib)
}

// measure returns the size of a directory's content. It counts every hard link.
func measure(ctx context.Context, dir string) (content, error) {
	var c content
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		c.files++
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Size() > 0 {
			c.bytes += max(roundUp(st.Blocks*512, block), block) // holes take no space
		}
		return nil
	})
	return c, err
}

// writeMBR writes a partition table with one bootable Linux partition from partitionStart to the
// end.
func writeMBR(f *os.File, size int64) error {
	var sector [512]byte
	if _, err := rand.Read(sector[440:444]); err != nil { // the disk signature
		return err
	}
	entry := sector[446:]
	copy(entry, "\x80\xfe\xff\xff\x83\xfe\xff\xff") // active, Linux, too large for cylinders
	binary.LittleEndian.PutUint32(entry[8:], partitionStart/512)
	binary.LittleEndian.PutUint32(entry[12:], uint32(min((size-partitionStart)/512, 1<<32-1)))
	sector[510], sector[511] = 0x55, 0xaa
	_, err := f.WriteAt(sector[:], 0)
	return err
}

// makeFileSystem creates ext4 with the directory's content in the partition. It leaves to the
// first mount everything that can be initialized then.
func makeFileSystem(ctx context.Context, file, dir string, size int64, c content, label string) error {
	mkfs, err := tool("mkfs.ext4", "e2fsprogs")
	if err != nil {
		return err
	}
	if label == "" {
		label = "root"
	}
	if len(label) > maxLabel { // mkfs would truncate it
		return fmt.Errorf("the label %q has more than %d bytes", label, maxLabel)
	}
	args := []string{"-q", "-F", "-L", label, "-d", dir, "-E", fmt.Sprintf(
		"offset=%d,nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", partitionStart)}
	if n := c.inodes(size); n > 0 {
		args = append(args, "-N", strconv.FormatInt(n, 10))
	}
	return run(ctx, mkfs, append(args, file, fmt.Sprintf("%dk", size/1024))...)
}

// inodes returns the number of inodes that mkfs must create in a file system of this size, 0 if
// its default, one for every 16 KiB, is enough.
func (c content) inodes(size int64) int64 {
	if n := c.files + c.files/4 + 1024; n > size/(16<<10) {
		return n
	}
	return 0
}

// tool returns the path of a program, which may be in a directory that is only in root's PATH.
func tool(name, debianPackage string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: install %s: %w", name, debianPackage, exec.ErrNotFound)
}

// run runs a program. Its error contains the output of the program.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return nil
}
