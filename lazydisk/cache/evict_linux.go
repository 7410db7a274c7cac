package cache

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// evictBatch is the number of blocks that one pass over the directory removes at most. It bounds
// the memory of a pass.
const evictBatch = 4096

// evict removes the least recently used blocks until a tenth of the limit is free. Only one
// process does so at a time, while no process adds a block; the others find free space.
func (c *Cache) evict() error {
	if c.limit < fileSize {
		return ErrFull
	}
	unlock, err := c.lockFiles(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if c.usage.load()+fileSize <= c.limit {
		return nil
	}
	for {
		surplus := c.usage.load() - c.limit*9/10
		n := min(max(1, (surplus+fileSize-1)/fileSize), evictBatch)
		old, all, err := c.oldest(int(n))
		if err != nil {
			return err
		}
		c.usage.store(all * fileSize) // a killed process may have made it too high
		if c.removeFiles(old) == 0 || c.usage.load()+fileSize <= c.limit {
			return nil
		}
	}
}

// blockFile is the file of a block with the time of its last use.
type blockFile struct {
	dir, name string
	used      int64
}

// newestFirst is a heap of files whose first element is the most recently used.
type newestFirst []blockFile

func (h newestFirst) Len() int           { return len(h) }
func (h newestFirst) Less(i, j int) bool { return h[i].used > h[j].used }
func (h newestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *newestFirst) Push(x any) { *h = append(*h, x.(blockFile)) }

// Pop implements heap.Interface.
func (h *newestFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// oldest returns the n least recently used files and the number of all files.
func (c *Cache) oldest(n int) (old []blockFile, all int64, err error) {
	var files newestFirst
	err = c.eachFile(func(dir *safedir.Dir, source, name string) {
		var st unix.Stat_t
		if strings.HasPrefix(name, temporaryPrefix) || unix.Fstatat(dir.Fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
			return
		}
		all++
		f := blockFile{source, name, st.Mtim.Nano()}
		if len(files) < n {
			heap.Push(&files, f)
		} else if n > 0 && f.used < files[0].used {
			files[0] = f
			heap.Fix(&files, 0)
		}
	})
	return files, all, err
}

// eachFile calls a function with each file of a block, and with the temporary ones.
func (c *Cache) eachFile(call func(dir *safedir.Dir, source, name string)) error {
	sources, err := c.dir.Entries()
	if err != nil {
		return fmt.Errorf("cannot list the block cache: %w", err)
	}
	for _, source := range sources {
		if !strings.HasPrefix(source.Name(), keyPrefix) {
			continue
		}
		if err := c.eachFileOf(source.Name(), call); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cache) eachFileOf(source string, call func(dir *safedir.Dir, source, name string)) error {
	dir, err := safedir.Open(c.dir.Child(source))
	if err != nil {
		return fmt.Errorf("cannot list the block cache: %w", err)
	}
	defer dir.Close()
	fd, err := unix.Openat(dir.Fd(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir.Path(), Err: err}
	}
	list := os.NewFile(uintptr(fd), dir.Path())
	defer list.Close()
	for {
		names, err := list.Readdirnames(1024)
		for _, name := range names {
			if name != lockName {
				call(dir, source, name)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot list the block cache: %w", err)
		}
	}
}

// removeFiles removes files of blocks until there is enough room, and returns their number. A file that
// cannot be removed stays.
func (c *Cache) removeFiles(files []blockFile) (removed int) {
	for _, f := range files {
		if c.usage.load() <= c.limit*9/10 && c.usage.load()+fileSize <= c.limit {
			break
		}
		if unix.Unlinkat(c.dir.Fd(), f.dir+"/"+f.name, 0) == nil {
			c.usage.add(-fileSize)
			removed++
		}
	}
	return removed
}

// sweep counts the blocks and removes remains of killed processes. No other process may use the
// cache.
func (c *Cache) sweep() error {
	var count int64
	err := c.eachFile(func(dir *safedir.Dir, _, name string) {
		if strings.HasPrefix(name, temporaryPrefix) {
			_ = dir.Remove(name)
			return
		}
		count++
	})
	if err != nil {
		return err
	}
	c.usage.store(count * fileSize)
	return nil
}
