package cache

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// usageName is the file that holds the size of all blocks. All processes map it.
const usageName = "usage"

// usage is a page that all processes share. It begins with the size of all blocks. A block's size is
// added before its file gets a name, and subtracted after the file is removed, so a killed process
// makes the size too high, never too low.
type usage struct{ page []byte }

func openUsage(dir *safedir.Dir) (*usage, error) {
	f, err := dir.OpenFile(usageName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	// a written page has space on the disk, so that access to the mapping cannot fail
	if err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size)); err != nil {
		return nil, fmt.Errorf("cannot allocate %s: %w", f.Name(), err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("cannot map %s: %w", f.Name(), err)
	}
	return &usage{page}, nil
}

func (u *usage) number() *int64 { return (*int64)(unsafe.Pointer(&u.page[0])) }

func (u *usage) load() int64 { return atomic.LoadInt64(u.number()) }

// add adds to the number and returns the sum.
func (u *usage) add(n int64) int64 { return atomic.AddInt64(u.number(), n) }

func (u *usage) store(n int64) { atomic.StoreInt64(u.number(), n) }

// tickets returns the number of tickets that were given to users that wait for the lock of the files.
func (u *usage) tickets() *int64 { return (*int64)(unsafe.Pointer(&u.page[8])) }

// maxTicket is the highest byte of a file that can be locked.
const maxTicket = 1<<62 - 1

// ticket returns a higher ticket than all processes have before.
func (u *usage) ticket() int64 { return atomic.AddInt64(u.tickets(), 1) & maxTicket }

func (u *usage) close() {
	_ = unix.Munmap(u.page)
	u.page = nil
}
