package polling

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A lock is tried again for a moment: it is held for the time of a write, or by a stopped
// process.
const (
	lockTries = 20
	lockPause = 5 * time.Millisecond
)

// lock locks a file until it is closed. It returns an error if another process holds the lock for
// long.
func lock(f *os.File) error {
	for n := 1; ; n++ {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		if n == lockTries || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		time.Sleep(lockPause)
	}
}

// own returns an error if a file belongs to another user, root included.
func own(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user", f.Name())
	}
	return nil
}
