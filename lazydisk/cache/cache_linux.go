package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

const (
	// usersName is a file that each process locks, shared, while it uses the cache.
	usersName = "users"
	// filesName is a file that is locked while the set of block files changes or is counted.
	filesName = "files"
	// keyPrefix begins the names of the directories of sources.
	keyPrefix = "s-"
)

// Cache is the cache of a host. Its methods may be called by several goroutines.
type Cache struct {
	dir   *safedir.Dir
	limit int64
	users *os.File
	usage *usage
	// damaged counts the blocks that failed the verification.
	damaged atomic.Int64
}

// Open opens a cache, and creates its directory if it is missing. If no other process uses it,
// the files are counted, and remains of killed processes are removed.
func Open(o Options) (*Cache, error) {
	dir, err := safedir.Make(o.Dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("cannot open the block cache: %w", err)
	}
	c := &Cache{dir: dir, limit: o.Limit}
	if err := c.open(); err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot open the block cache %s: %w", o.Dir, err)
	}
	return c, nil
}

func (c *Cache) open() (err error) {
	if c.users, err = c.dir.OpenFile(usersName, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if c.usage, err = openUsage(c.dir); err != nil {
		return err
	}
	switch err = unix.Flock(int(c.users.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case err == nil:
		if err := c.sweep(); err != nil {
			return err
		}
	case !errors.Is(err, unix.EWOULDBLOCK):
		return os.NewSyscallError("flock", err)
	}
	return retryEINTR(func() error { return unix.Flock(int(c.users.Fd()), unix.LOCK_SH) })
}

// Close releases the cache. Open blocks can still be read.
func (c *Cache) Close() {
	if c.users != nil {
		c.users.Close()
	}
	if c.usage != nil {
		c.usage.close()
	}
	c.dir.Close()
}

// Usage returns the size of all files in bytes. It includes blocks that are being written.
func (c *Cache) Usage() int64 { return c.usage.load() }

// Damaged returns the number of blocks that failed the verification in this process.
func (c *Cache) Damaged() int64 { return c.damaged.Load() }

// Source opens the part of the cache that holds the blocks of one source. The key must be
// unique among all sources of all clouds.
func (c *Cache) Source(key string) (*Source, error) {
	s := &Source{cache: c, key: sha256.Sum256([]byte(key))}
	s.name = keyPrefix + hex.EncodeToString(s.key[:16])
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("cannot open the blocks of %s in the cache: %w", key, err)
	}
	return s, nil
}

// retryEINTR calls a function until a signal no longer interrupts it.
func retryEINTR(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
