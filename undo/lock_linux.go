package undo

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lock locks a file until it is closed or the process ends. If another process holds the
// lock, it waits, or returns EWOULDBLOCK.
func lock(f *os.File, wait bool) error {
	if wait {
		return flock(f, unix.LOCK_EX)
	}
	return flock(f, unix.LOCK_EX|unix.LOCK_NB)
}

// share takes a shared lock of a file. It does not wait.
func share(f *os.File) error { return flock(f, unix.LOCK_SH|unix.LOCK_NB) }

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		return nil
	}
}

// isHeld reports whether an error of lock means that another process holds the lock.
func isHeld(err error) bool { return errors.Is(err, unix.EWOULDBLOCK) }

// syncData writes the data of a file to the disk, without the times of its inode.
func syncData(f *os.File) error {
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}

// bootID returns the kernel's boot_id; empty if it cannot be read.
func bootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
}

// trusted returns an error if a file or directory belongs to another user, root included,
// or if a group or everybody can write to it, because journals are acted on.
func trusted(path string, info os.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return fmt.Errorf("%s: its owner is unknown", path)
	case int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d, and this is user %d", path, st.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written to by others: its mode is %04o", path, info.Mode().Perm())
	}
	return nil
}

// birthTime returns when a file was created; the zero time if the file system does not
// record that.
func birthTime(f *os.File) time.Time {
	var st unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return time.Time{}
	}
	return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec))
}
