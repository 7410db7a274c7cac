package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// growable is a type of file system that can be grown.
type growable struct {
	// name is the type's name in package superblock.
	name string
	// tools is the Debian package of the programs that unmounted runs.
	tools string
	// unmounted are the programs that grow it while it is not mounted, in order. It is empty if
	// it grows while it is mounted.
	unmounted []toolRun
	// mounted asks the kernel to grow it, by its root directory, to a size in bytes. It is nil
	// if it grows while it is not mounted.
	mounted func(dir *os.File, size int64) error
}

// toolRun is a run of a program on a node, which becomes its last argument.
type toolRun struct {
	args []string
	// success is the highest exit status of a success.
	success int
}

// growables are the types of file systems that can be grown.
//
// The kernel could grow a mounted ext4 too, but many containers lack the right to request that
// (CAP_SYS_RESOURCE). resize2fs needs a file system that was checked; status 1 of e2fsck means
// repaired.
var growables = []growable{
	{name: "ext4", tools: "e2fsprogs", unmounted: []toolRun{ // ext2 and ext3 too
		{args: []string{"e2fsck", "-f", "-p"}, success: 1},
		{args: []string{"resize2fs"}},
	}},
	{name: "xfs", mounted: growXFS},
	{name: "btrfs", mounted: growBtrfs},
}

// findGrowable returns the row of a type of file system. The error wraps errors.ErrUnsupported if
// there is none.
func findGrowable(name string) (growable, error) {
	i := slices.IndexFunc(growables, func(g growable) bool { return g.name == name })
	if i < 0 {
		return growable{}, fmt.Errorf("it is %q, and only %s can be grown: %w", name, growableNames(), errors.ErrUnsupported)
	}
	return growables[i], nil
}

// growableNames returns the names of all types, as a part of a sentence.
func growableNames() string {
	var names []string
	for _, g := range growables {
		names = append(names, g.name)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// GrowUnmounted grows a file system to the size of its device if it is of a type that grows while
// it is not mounted, such as ext2, ext3 or ext4. It needs the programs of that type. It leaves
// other types to GrowMounted.
func GrowUnmounted(ctx context.Context, node string) error {
	f, err := os.Open(node)
	if err != nil {
		return fmt.Errorf("cannot grow a file system: %w", err)
	}
	content, err := superblock.Read(f)
	f.Close()
	if err != nil {
		return err
	}
	found, err := findGrowable(content.Type)
	if err != nil {
		return nil //nolint:nilerr // GrowMounted refuses it
	}
	for _, run := range found.unmounted {
		if err := run.on(ctx, found.tools, node); err != nil {
			return fmt.Errorf("cannot grow the %s of %s: %w", found.name, node, err)
		}
	}
	return nil
}

// on runs the program, which belongs to a Debian package, on a node.
func (r toolRun) on(ctx context.Context, tools, node string) error {
	program := r.args[0]
	path, err := lookPath(program)
	if err != nil {
		return fmt.Errorf("the host has no %s (of the package %s): %w", program, tools, err)
	}
	cmd := exec.CommandContext(ctx, path, append(slices.Clone(r.args[1:]), node)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 && exit.ExitCode() <= r.success {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}

// lookPath is exec.LookPath that also searches the directories of administrators'
// programs.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if err != nil {
			path, err = exec.LookPath(filepath.Join(dir, name))
		}
	}
	return path, err
}

// The kernel's requests to grow a file system, of fs/xfs/libxfs/xfs_fs.h and
// include/uapi/linux/btrfs.h. They are the same on every architecture with Linux's
// "asm-generic" ioctl numbers, such as x86-64 and arm64.
const (
	xfsGeometry = 0x80705864 // _IOR('X', 100, struct xfs_fsop_geom_v1)
	xfsGrow     = 0x4010586e // _IOW('X', 110, struct xfs_growfs_data)
	btrfsResize = 0x50009403 // _IOW(0x94, 3, struct btrfs_ioctl_vol_args)
)

// GrowMounted grows the file system that is mounted at path to the size of its device. It
// asks the kernel, as xfs_growfs and btrfs do, which the host need not have. It does nothing for
// types that GrowUnmounted grows. The error wraps errors.ErrUnsupported for a type that cannot be
// grown.
func GrowMounted(path, device string) error {
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("cannot grow a file system: %w", err)
	}
	defer f.Close()
	content, err := superblock.Read(f)
	if err == nil {
		err = growTo(path, content.Type, f)
	}
	if err != nil {
		return fmt.Errorf("cannot grow the file system of %s: %w", device, err)
	}
	return nil
}

// growTo grows the file system that is mounted at path to the size of its device.
func growTo(path, name string, device *os.File) error {
	found, err := findGrowable(name)
	if err != nil || found.mounted == nil {
		return err
	}
	size, err := device.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	return found.mounted(dir, size)
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}

// growXFS grows to whole blocks, and keeps the share of space that the file system allows
// for inodes.
func growXFS(dir *os.File, size int64) error {
	var geometry struct { // struct xfs_fsop_geom_v1
		blockSize, rtExtentSize, agBlocks, agCount, logBlocks, sectorSize, inodeSize, maxPercent uint32
		dataBlocks                                                                               uint64
		_                                                                                        [72]byte
	}
	if err := ioctl(dir, xfsGeometry, unsafe.Pointer(&geometry)); err != nil {
		return err
	}
	grow := struct { // struct xfs_growfs_data
		blocks     uint64
		maxPercent uint32
		_          uint32
	}{blocks: uint64(size) / uint64(geometry.blockSize), maxPercent: geometry.maxPercent}
	if grow.blocks <= geometry.dataBlocks {
		return nil
	}
	return ioctl(dir, xfsGrow, unsafe.Pointer(&grow))
}

// growBtrfs grows its first device, the only one on a volume, to its end.
func growBtrfs(dir *os.File, _ int64) error {
	var args [4096]byte // a file descriptor, which is not used here, and a name
	copy(args[8:], "1:max")
	return ioctl(dir, btrfsResize, unsafe.Pointer(&args))
}
