package disk

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SyncPartitions makes the kernel's partitions of a block device equal to its table, as
// partx -u does. On kernels without parsers for tables BLKRRPART does nothing, or removes
// all partitions; adding and removing single ones (BLKPG) works on every kernel.
//
// Correct partitions are not touched, so that their users are not disturbed. One in use
// that the table has elsewhere, or not at all, stays and is an error. If a device has no
// table, its partitions are removed; if the table cannot be read, they stay.
func SyncPartitions(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("cannot read the partition table: %w", err)
	}
	defer f.Close()
	// A partitioning tool, udev or another build may do the same at this moment: an act
	// that has failed is tried again before it is an error.
	for pause := 5 * time.Millisecond; ; pause *= 4 {
		if err = syncOnce(f); err == nil || pause > 100*time.Millisecond {
			break
		}
		time.Sleep(pause)
	}
	if err != nil {
		return fmt.Errorf("cannot make the kernel's partitions of %s equal to its table: %w", device, err)
	}
	return nil
}

// syncOnce changes every difference once. It removes first: an added partition must not
// overlap an existing one.
func syncOnce(f *os.File) error {
	want, err := wanted(f)
	if err != nil {
		return err
	}
	have, err := kernelPartitions(f.Name())
	if err != nil {
		return err
	}
	var errs []error
	for n, h := range have {
		if w, ok := want[n]; !ok || w.start != h.start {
			errs = append(errs, blkpg(f, unix.BLKPG_DEL_PARTITION, n, known{}))
			delete(have, n)
		}
	}
	for _, n := range order(want, have) {
		w, h := want[n], have[n]
		switch {
		case h.length == 0:
			errs = append(errs, blkpg(f, unix.BLKPG_ADD_PARTITION, n, w))
		case w.length != h.length:
			errs = append(errs, blkpg(f, unix.BLKPG_RESIZE_PARTITION, n, w))
		}
	}
	return errors.Join(errs...)
}

// order compares partitions by the order in which they are added and resized: those that
// shrink first, for one that grows or is added may need their space.
func order(want, have map[int]known) []int {
	var shrink, rest []int
	for n, w := range want {
		if w.length < have[n].length {
			shrink = append(shrink, n)
		} else {
			rest = append(rest, n)
		}
	}
	slices.Sort(shrink)
	slices.Sort(rest)
	return append(shrink, rest...)
}

// wanted returns the device's table as the kernel should have it.
func wanted(f *os.File) (map[int]known, error) {
	t, err := readOpen(f)
	if err != nil {
		return nil, err
	}
	sector, err := sectorSize(f)
	if err != nil {
		return nil, err
	}
	want := make(map[int]known, len(t.Partitions))
	for _, p := range t.Partitions {
		length := p.Length
		if t.Kind == MBR && p.Extended() {
			// Linux shows only the beginning, space for a boot loader: the logical
			// partitions are inside.
			length = min(length, max(1024, int64(sector)))
		}
		want[p.Number] = known{start: p.Start, length: length}
	}
	return want, nil
}

// RemovePartitions removes all partitions that the kernel has of a device. The error
// wraps EBUSY if one is in use.
func RemovePartitions(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("cannot remove partitions: %w", err)
	}
	defer f.Close()
	have, err := kernelPartitions(device)
	if err != nil {
		return err
	}
	var errs []error
	for n := range have {
		errs = append(errs, blkpg(f, unix.BLKPG_DEL_PARTITION, n, known{}))
	}
	return errors.Join(errs...)
}

// blkpg does one act on one partition. It succeeds if a partition to remove does not
// exist.
func blkpg(f *os.File, op int32, n int, p known) error {
	part := unix.BlkpgPartition{Start: p.start, Length: p.length, Pno: int32(n)}
	arg := unix.BlkpgIoctlArg{
		Op:      op,
		Datalen: int32(unsafe.Sizeof(part)),
		Data:    (*byte)(unsafe.Pointer(&part)),
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno == 0 || op == unix.BLKPG_DEL_PARTITION && errno == unix.ENXIO {
		return nil
	}
	err := os.NewSyscallError("BLKPG", errno)
	return fmt.Errorf("cannot %s partition %d of %s: %w", acts[op], n, f.Name(), err)
}

var acts = map[int32]string{
	unix.BLKPG_ADD_PARTITION:    "add",
	unix.BLKPG_DEL_PARTITION:    "remove",
	unix.BLKPG_RESIZE_PARTITION: "resize",
}
