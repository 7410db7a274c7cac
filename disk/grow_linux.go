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
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
)

// GrowPartition extends the partition with this node, which must not be in use, to the
// end of its device, in the table and in the kernel. It reports whether the partition
// grew. It does nothing if the node is the whole device.
func GrowPartition(device, node string) (grown bool, err error) {
	n, err := numberOn(device, node)
	if err == nil && n > 0 {
		grown, err = growOn(device, n)
	}
	if err == nil && grown {
		err = SyncPartitions(device)
	}
	if err != nil {
		return grown, fmt.Errorf("cannot grow the partition %s: %w", node, err)
	}
	return grown, nil
}

// numberOn returns the number of the device's partition that has the node, 0 for the
// whole device.
func numberOn(device, node string) (int, error) {
	dev, err := number(node)
	if err != nil {
		return 0, err
	}
	if whole, err := number(device); err != nil || whole == dev {
		return 0, err
	}
	parts, err := kernelPartitions(device)
	if err != nil {
		return 0, err
	}
	for n, p := range parts {
		if p.number == dev {
			return n, nil
		}
	}
	return 0, fmt.Errorf("%s is not on %s", node, device)
}

func growOn(device string, number int) (bool, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sector, err := sectorSize(f)
	if err != nil {
		return false, err
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	grown, err := GrowInTable(f, size, sector, number)
	return grown, errors.Join(err, f.Sync())
}

// GrowUnmounted grows a file system to the size of its device if it is one that grows
// while it is not mounted: ext2, ext3 or ext4. It needs e2fsck and resize2fs; the kernel
// could grow a mounted one too, but many containers lack the right to ask for that
// (CAP_SYS_RESOURCE). It leaves other types to GrowMounted.
func GrowUnmounted(ctx context.Context, node string) error {
	f, err := os.Open(node)
	if err != nil {
		return fmt.Errorf("cannot grow a file system: %w", err)
	}
	content, err := superblock.Read(f)
	f.Close()
	if err != nil || content.Type != "ext4" {
		return err
	}
	// resize2fs needs a file system that was checked; status 1 of the check means
	// repaired.
	for _, step := range []struct {
		most int
		args []string
	}{
		{1, []string{"e2fsck", "-f", "-p", node}},
		{0, []string{"resize2fs", node}},
	} {
		if err := tool(ctx, step.most, step.args); err != nil {
			return fmt.Errorf("cannot grow the ext4 of %s: %w", node, err)
		}
	}
	return nil
}

// tool runs a program of e2fsprogs. A status up to most is not an error.
func tool(ctx context.Context, most int, args []string) error {
	path, err := lookPath(args[0])
	if err != nil {
		return fmt.Errorf("the host has no %s (of the package e2fsprogs): %w", args[0], err)
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() >= 0 && exit.ExitCode() <= most {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
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
// asks the kernel, as xfs_growfs and btrfs do, which the host need not have. An ext4 must
// have grown by GrowUnmounted. Any other type is an error that wraps
// errors.ErrUnsupported.
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

var growers = map[string]func(dir *os.File, size int64) error{
	"ext4":  func(*os.File, int64) error { return nil },
	"xfs":   growXFS,
	"btrfs": growBtrfs,
}

func growTo(path, kind string, device *os.File) error {
	grow, ok := growers[kind]
	if !ok {
		return fmt.Errorf("it is %q, and only ext4, xfs and btrfs can be grown: %w", kind, errors.ErrUnsupported)
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
	return grow(dir, size)
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
