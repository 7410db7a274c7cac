package cache

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockTimeout is how long a process waits for the lock of the files. A stopped process may hold
// it; then blocks are used without the cache.
const lockTimeout = 5 * time.Second

// errBusy is wrapped by the error for a lock that other processes did not release in time.
var errBusy = errors.New("other processes hold the lock")

// lockFiles locks the set of files: shared to add or remove one, exclusive to count them. The
// function that it returns ends the lock.
//
// Users get the lock in the order in which they ask for it. Otherwise a user whose polls are rare
// by now would lose against new ones every time, and an exclusive one against shared ones. Each
// user takes a number, which all processes count together, and locks the byte of that number
// until it has the lock of the files. It waits while a byte before its own is locked. The kernel
// unlocks the byte of a killed process.
func (c *Cache) lockFiles(how int) (unlock func(), err error) {
	lock, err := c.dir.OpenFile(filesName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockInTurn(lock, c.usage.ticket(), how); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot lock the files of the block cache: %w", err)
	}
	return func() { lock.Close() }, nil
}

// lockInTurn locks a file after the users with lower tickets.
func lockInTurn(lock *os.File, ticket int64, how int) error {
	if err := lockByte(lock, unix.F_WRLCK, ticket); err != nil {
		return err
	}
	defer func() { _ = lockByte(lock, unix.F_UNLCK, ticket) }()
	deadline := time.Now().Add(lockTimeout)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		err := tryLock(lock, ticket, how)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %w", errBusy, err)
		}
		time.Sleep(pause)
	}
}

// tryLock locks a file, unless it is locked or a user with a lower ticket waits.
func tryLock(lock *os.File, ticket int64, how int) error {
	waits, err := anyBefore(lock, ticket)
	switch {
	case err != nil:
		return err
	case waits:
		return unix.EWOULDBLOCK
	}
	return unix.Flock(int(lock.Fd()), how|unix.LOCK_NB)
}

// lockByte locks or unlocks the byte of a ticket.
func lockByte(lock *os.File, kind int16, ticket int64) error {
	return retryEINTR(func() error {
		return unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: ticket, Len: 1})
	})
}

// anyBefore reports whether another user waits with a lower ticket.
func anyBefore(lock *os.File, ticket int64) (bool, error) {
	if ticket == 0 {
		return false, nil // a length of 0 would mean the whole file
	}
	others := unix.Flock_t{Type: unix.F_WRLCK, Len: ticket}
	err := retryEINTR(func() error { return unix.FcntlFlock(lock.Fd(), unix.F_OFD_GETLK, &others) })
	return others.Type != unix.F_UNLCK, err
}
