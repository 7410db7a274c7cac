package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// lockName is the file in a source's directory whose byte ranges are the locks of its blocks.
const lockName = "lock"

// touchAfter is the age at which the time of the last use is written again.
const touchAfter = time.Minute

// ErrFull is wrapped by the error of Put if a block does not fit into the cache.
var ErrFull = errors.New("the block cache is full")

// Source is the part of a cache that holds the blocks of one source.
type Source struct {
	cache *Cache
	key   [sha256.Size]byte
	name  string
	dir   *safedir.Dir
	lock  *os.File
}

func (s *Source) open() (err error) {
	if s.dir, err = safedir.Make(s.cache.dir.Child(s.name), 0o700); err != nil {
		return err
	}
	s.lock, err = s.dir.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		s.dir.Close()
	}
	return err
}

// Close releases the source. Open blocks can still be read.
func (s *Source) Close() {
	s.lock.Close()
	s.dir.Close()
}

// fileName returns the name of a block's file.
func fileName(index int64) string { return strconv.FormatInt(index, 16) }

// Has reports whether the cache holds a block. It does not verify the content.
func (s *Source) Has(index int64) bool {
	return unix.Faccessat(s.dir.Fd(), fileName(index), unix.R_OK, 0) == nil
}

// Open opens a block. The error wraps os.ErrNotExist if the cache does not hold it. A file with
// a damaged header is removed.
func (s *Source) Open(index int64) (*Block, error) {
	fd, err := unix.Openat(s.dir.Fd(), fileName(index), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: s.dir.Child(fileName(index)), Err: err}
	}
	b := &Block{source: s, index: index, file: os.NewFile(uintptr(fd), s.dir.Child(fileName(index)))}
	if err := b.load(); err != nil {
		defer b.Close()
		if errors.Is(err, errDamaged) {
			s.drop(b)
			err = fmt.Errorf("%w: %w", os.ErrNotExist, err)
		}
		return nil, err
	}
	return b, nil
}

// drop removes a damaged block, unless its file was replaced in the meantime.
func (s *Source) drop(b *Block) {
	s.cache.damaged.Add(1)
	if name := fileName(b.index); s.dir.Holds(name, b.file) {
		s.remove(name)
	}
}

// remove removes the file of a block.
func (s *Source) remove(name string) {
	unlock, err := s.cache.lockFiles(unix.LOCK_SH)
	if err != nil {
		return
	}
	defer unlock()
	if unix.Unlinkat(s.dir.Fd(), name, 0) == nil {
		s.cache.usage.add(-fileSize)
	}
}

// Put adds a block and opens it. It removes old blocks if the cache is full. Two processes may
// put the same block.
func (s *Source) Put(index int64, sum block.Sum, data []byte) (*Block, error) {
	h := newHeader(s.key, index, sum, data)
	file, err := s.write(index, h, data)
	if err == nil {
		err = s.publish(file, fileName(index))
		if err == nil {
			return &Block{source: s, index: index, file: file.File, header: h}, nil
		}
		file.Close()
	}
	if errors.Is(err, unix.EEXIST) {
		return s.Open(index)
	}
	return nil, fmt.Errorf("cannot add block %d to the cache: %w", index, err)
}

// unpublished is a complete file that has no name yet, or a temporary one.
type unpublished struct {
	*os.File
	temporary string
}

// write writes a file.
func (s *Source) write(index int64, h *header, data []byte) (*unpublished, error) {
	file, err := s.create(index)
	if err != nil {
		return nil, err
	}
	if _, err = file.Write(h.encode()); err == nil {
		_, err = file.Write(data)
	}
	if err != nil {
		s.removeTemporary(file)
		file.Close()
		return nil, err
	}
	return file, nil
}

// publish gives a complete file its name when there is room for it.
func (s *Source) publish(file *unpublished, name string) error {
	defer s.removeTemporary(file)
	for range 3 { // another process may take the space that an eviction made free
		err := s.add(file, name)
		if !errors.Is(err, ErrFull) {
			return err
		}
		if err := s.cache.evict(); err != nil {
			return err
		}
	}
	return ErrFull
}

// add gives a file its name if there is room for it.
func (s *Source) add(file *unpublished, name string) error {
	unlock, err := s.cache.lockFiles(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer unlock()
	if s.cache.usage.add(fileSize) > s.cache.limit {
		err = ErrFull
	} else {
		err = s.link(file, name)
	}
	if err != nil {
		s.cache.usage.add(-fileSize)
	}
	return err
}

// temporaryPrefix begins the names of files that are being written.
const temporaryPrefix = "."

// create creates a file without a name or, if the file system cannot do that, with a temporary
// one.
func (s *Source) create(index int64) (*unpublished, error) {
	const flags = unix.O_RDWR | unix.O_CLOEXEC
	fd, err := unix.Openat(s.dir.Fd(), ".", flags|unix.O_TMPFILE, 0o600)
	if err == nil {
		return &unpublished{File: os.NewFile(uintptr(fd), s.dir.Child(fileName(index)))}, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, os.NewSyscallError("open", err)
	}
	temporary := fmt.Sprintf("%s%d-%d", temporaryPrefix, os.Getpid(), time.Now().UnixNano())
	file, err := s.dir.OpenFile(temporary, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
	return &unpublished{file, temporary}, err
}

// link gives a complete file its name. The error is EEXIST if another process was faster.
func (s *Source) link(file *unpublished, name string) error {
	if file.temporary != "" {
		return unix.Linkat(s.dir.Fd(), file.temporary, s.dir.Fd(), name, 0)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", file.Fd())
	return unix.Linkat(unix.AT_FDCWD, path, s.dir.Fd(), name, unix.AT_SYMLINK_FOLLOW)
}

func (s *Source) removeTemporary(file *unpublished) {
	if file.temporary != "" {
		_ = unix.Unlinkat(s.dir.Fd(), file.temporary, 0)
	}
}

// Lock waits until no other process fetches a block, and returns a function that ends the lock. It
// does not lock a block that another process has added meanwhile. The kernel ends the lock of a
// killed process. It locks only against other processes.
func (s *Source) Lock(ctx context.Context, index int64) (unlock func(), err error) {
	const longest = 20 * time.Millisecond
	for pause := time.Millisecond; ; pause = min(2*pause, longest) {
		err := s.setLock(unix.F_WRLCK, index)
		if err == nil {
			return func() { _ = s.setLock(unix.F_UNLCK, index) }, nil
		}
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("cannot lock block %d in the cache: %w", index, err)
		}
		if s.Has(index) {
			return func() {}, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

func (s *Source) setLock(kind int16, index int64) error {
	return unix.FcntlFlock(s.lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: index, Len: 1})
}
