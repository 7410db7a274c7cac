package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// churnEnv makes the test binary a process that uses the cache in a directory until it is killed.
const churnEnv = "CACHE_TEST_CHURN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(churnEnv); dir != "" {
		fmt.Fprintln(os.Stderr, churn(dir, churnLimit, -1))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a cache until the end of the test.
func open(t testing.TB, dir string, limit int64) *Cache {
	t.Helper()
	c, err := Open(Options{Dir: dir, Limit: limit})
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func source(t testing.TB, c *Cache, key string) *Source {
	t.Helper()
	s, err := c.Source(key)
	must(t, err)
	t.Cleanup(s.Close)
	return s
}

// content returns the content of a block of the tests. Each page is different.
func content(key string, index int64) []byte {
	p := bytes.Repeat([]byte(fmt.Sprintf("%-16s", key)), block.Size/16)
	for i := 0; i < len(p); i += 512 {
		binary.LittleEndian.PutUint64(p[i:], uint64(index)<<32|uint64(i))
	}
	return p
}

func put(s *Source, key string, index int64) error {
	p := content(key, index)
	b, err := s.Put(index, sha256.Sum256(p), p)
	if err == nil {
		b.Close()
	}
	return err
}

// check reads a whole block. The error wraps os.ErrNotExist if the cache does not have it.
func check(s *Source, key string, index int64) error {
	b, err := s.Open(index)
	if err != nil {
		return err
	}
	defer b.Close()
	p, want := make([]byte, block.Size), content(key, index)
	if _, err := b.ReadAt(p, 0); err != nil {
		return err
	}
	if !bytes.Equal(p, want) || b.Sum() != sha256.Sum256(want) {
		return fmt.Errorf("block %d has the wrong content", index)
	}
	return nil
}

// files returns the files of blocks, and the total size of them.
func files(t testing.TB, dir string) (names []string, size int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() || filepath.Dir(path) == dir || d.Name() == lockName {
			return err
		}
		if info, err := d.Info(); err == nil {
			names, size = append(names, path), size+info.Size()
		}
		return nil
	}))
	return names, size
}

func TestBlocksOfSources(t *testing.T) {
	c := open(t, testdir.New(t), 1<<30)
	a, b := source(t, c, "a"), source(t, c, "b")
	if err := check(a, "a", 7); !errors.Is(err, os.ErrNotExist) || a.Has(7) {
		t.Errorf("an empty cache returns %v", err)
	}
	must(t, put(a, "a", 7))
	must(t, put(a, "a", 7)) // as another process may
	must(t, check(a, "a", 7))
	if err := check(b, "b", 7); !errors.Is(err, os.ErrNotExist) || b.Has(7) || !a.Has(7) {
		t.Errorf("a block of another source: %v", err)
	}
	if c.Usage() != fileSize {
		t.Errorf("the usage is %d", c.Usage())
	}
}

func TestParts(t *testing.T) {
	s := source(t, open(t, testdir.New(t), 1<<30), "a")
	must(t, put(s, "a", 1))
	b, err := s.Open(1)
	must(t, err)
	defer b.Close()
	want := content("a", 1)
	for _, part := range []struct{ off, n int }{{0, 4096}, {4096, 8192}, {1, 1}, {4095, 2}, {block.Size - 1, 1}, {512, 131072}, {0, block.Size}} {
		p := make([]byte, part.n)
		if _, err := b.ReadAt(p, int64(part.off)); err != nil || !bytes.Equal(p, want[part.off:][:part.n]) {
			t.Errorf("%d bytes at %d: %v, or the wrong content", part.n, part.off, err)
		}
	}
	for _, part := range []struct{ off, n int }{{-1, 1}, {block.Size, 1}, {1, block.Size}} {
		if _, err := b.ReadAt(make([]byte, part.n), int64(part.off)); err == nil {
			t.Errorf("%d bytes at %d were read", part.n, part.off)
		}
	}
}

// TestDamagedBlocks: a file with a wrong byte, or of a wrong size, is not served but removed, and can
// be added again.
func TestDamagedBlocks(t *testing.T) {
	flip := func(off int64) func(*os.File) error {
		return func(f *os.File) error {
			var b [1]byte
			_, err := f.ReadAt(b[:], off)
			b[0] ^= 0x40
			_, err2 := f.WriteAt(b[:], off)
			return errors.Join(err, err2)
		}
	}
	for name, damage := range map[string]func(*os.File) error{
		"magic": flip(0), "checksum": flip(5), "index": flip(15), "key": flip(20), "sum": flip(60), "page sum": flip(atPages + 3),
		"rest of the header": flip(headerSize - 1), "first page": flip(headerSize), "last page": flip(fileSize - 1),
		"short":    func(f *os.File) error { return f.Truncate(fileSize - 1) },
		"empty":    func(f *os.File) error { return f.Truncate(0) },
		"zeros":    func(f *os.File) error { return errors.Join(f.Truncate(0), f.Truncate(fileSize)) },
		"torn":     func(f *os.File) error { return errors.Join(f.Truncate(fileSize/2), f.Truncate(fileSize)) },
		"too long": func(f *os.File) error { return f.Truncate(fileSize + 1) },
	} {
		t.Run(name, func(t *testing.T) {
			c := open(t, testdir.New(t), 1<<30)
			s := source(t, c, "a")
			must(t, put(s, "a", 3))
			f, err := os.OpenFile(s.dir.Child(fileName(3)), os.O_RDWR, 0)
			must(t, err)
			defer f.Close()
			must(t, damage(f))
			if err := check(s, "a", 3); !errors.Is(err, os.ErrNotExist) && !errors.Is(err, ErrDamaged) {
				t.Errorf("it is served: %v", err)
			}
			if s.Has(3) || c.Usage() != 0 || c.Damaged() != 1 {
				t.Errorf("it is still there: usage %d, damaged %d", c.Usage(), c.Damaged())
			}
			must(t, put(s, "a", 3))
			must(t, check(s, "a", 3))
		})
	}
}

// TestDamageOfOnePage: undamaged pages of a damaged block can be read.
func TestDamageOfOnePage(t *testing.T) {
	s := source(t, open(t, testdir.New(t), 1<<30), "a")
	must(t, put(s, "a", 0))
	b, err := s.Open(0)
	must(t, err)
	defer b.Close()
	f, err := os.OpenFile(s.dir.Child(fileName(0)), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("damage"), headerSize+5*block.PageSize+100)
	must(t, err)
	p := make([]byte, block.PageSize)
	if _, err := b.ReadAt(p, 4*block.PageSize); err != nil {
		t.Errorf("page 4: %v", err)
	}
	if _, err := b.ReadAt(p, 5*block.PageSize); !errors.Is(err, ErrDamaged) {
		t.Errorf("page 5: %v", err)
	}
	if _, err := b.ReadAt(p[:1], 5*block.PageSize+7); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte of page 5: %v", err)
	}
}

// TestExchangedFiles: the file of another block, or of another source, is not served.
func TestExchangedFiles(t *testing.T) {
	c := open(t, testdir.New(t), 1<<30)
	a, b := source(t, c, "a"), source(t, c, "b")
	must(t, put(a, "a", 1))
	must(t, put(b, "b", 2))
	must(t, os.Rename(a.dir.Child(fileName(1)), a.dir.Child(fileName(9))))
	must(t, os.Rename(b.dir.Child(fileName(2)), a.dir.Child(fileName(2))))
	for _, index := range []int64{9, 2} {
		if err := check(a, "a", index); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("block %d: %v", index, err)
		}
	}
}

// TestEviction: the least recently used blocks are removed, and the limit is kept.
func TestEviction(t *testing.T) {
	dir := testdir.New(t)
	const limit = 10 * fileSize
	c := open(t, dir, limit)
	a, b := source(t, c, "a"), source(t, c, "b")
	age := func(s *Source, index int64, hours int) {
		at := time.Now().Add(-time.Duration(hours) * time.Hour)
		must(t, os.Chtimes(s.dir.Child(fileName(index)), at, at))
	}
	for index := range int64(5) {
		must(t, put(a, "a", index))
		age(a, index, 10)
		must(t, put(b, "b", index))
		age(b, index, 20)
	}
	must(t, check(b, "b", 4)) // used: it is now the newest
	for index := int64(5); index < 8; index++ {
		must(t, put(a, "a", index))
		if _, size := files(t, dir); size > limit || c.Usage() != size {
			t.Errorf("the files have %d bytes, and the usage is %d", size, c.Usage())
		}
	}
	must(t, check(b, "b", 4))
	for index := range int64(8) {
		must(t, check(a, "a", index))
	}
	if names, _ := files(t, dir); len(names) > 10 || b.Has(0) {
		t.Errorf("%d files; the oldest is there: %v", len(names), b.Has(0))
	}
}

// TestFilesThatCannotBeRemoved: an eviction ends if no file can be removed. The files are directories
// here.
func TestFilesThatCannotBeRemoved(t *testing.T) {
	dir := testdir.New(t)
	first, err := Open(Options{Dir: dir, Limit: 3 * fileSize})
	must(t, err)
	s := source(t, first, "a")
	for index := range int64(3) {
		must(t, os.Mkdir(s.dir.Child(fileName(index)), 0o700))
	}
	first.Close() // the next one counts them
	second := source(t, open(t, dir, 3*fileSize), "a")
	ended := make(chan error, 1)
	go func() { ended <- put(second, "a", 9) }()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrFull) {
			t.Errorf("it returns %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the eviction does not end")
	}
}

// TestOpenBlockSurvivesEviction: a block that was removed can be read as long as it is open.
func TestOpenBlockSurvivesEviction(t *testing.T) {
	c := open(t, testdir.New(t), 2*fileSize)
	s := source(t, c, "a")
	must(t, put(s, "a", 0))
	b, err := s.Open(0)
	must(t, err)
	defer b.Close()
	for index := int64(1); index < 5; index++ {
		must(t, put(s, "a", index))
	}
	p := make([]byte, block.Size)
	if _, err := b.ReadAt(p, 0); err != nil || !bytes.Equal(p, content("a", 0)) || s.Has(0) {
		t.Errorf("it cannot be read, or is not evicted: %v", err)
	}
}

// TestLimitBelowABlock: such a cache keeps nothing, and says so.
func TestLimitBelowABlock(t *testing.T) {
	s := source(t, open(t, testdir.New(t), fileSize-1), "a")
	if err := put(s, "a", 0); !errors.Is(err, ErrFull) || s.Has(0) {
		t.Errorf("it returns %v", err)
	}
}

// TestLowerLimit: a limit that is lower than before removes blocks when the next one is added.
func TestLowerLimit(t *testing.T) {
	dir := testdir.New(t)
	big := source(t, open(t, dir, 1<<30), "a")
	for index := range int64(20) {
		must(t, put(big, "a", index))
	}
	small := open(t, dir, 5*fileSize)
	must(t, put(source(t, small, "a"), "a", 99))
	if names, size := files(t, dir); size > 5*fileSize || small.Usage() != size {
		t.Errorf("%d files with %d bytes, and the usage is %d", len(names), size, small.Usage())
	}
}

// TestUsageIsCounted: a wrong number, as a killed process leaves it, is corrected by the next process
// that is alone, and by an eviction.
func TestUsageIsCounted(t *testing.T) {
	dir := testdir.New(t)
	c := open(t, dir, 10*fileSize)
	s := source(t, c, "a")
	for index := range int64(3) {
		must(t, put(s, "a", index))
	}
	c.usage.add(9 * fileSize)
	must(t, put(s, "a", 3))
	if c.Usage() != 4*fileSize && c.Usage() != 3*fileSize {
		t.Errorf("after an eviction the usage is %d", c.Usage())
	}
	c.usage.store(12345)
	other := open(t, dir, 10*fileSize)
	if other.Usage() != 12345 {
		t.Error("it was counted although another process uses the cache")
	}
	other.Close()
	s.Close()
	c.Close()
	must(t, os.WriteFile(filepath.Join(dir, s.name, temporaryPrefix+"1-2"), []byte("x"), 0o600))
	again := open(t, dir, 10*fileSize)
	names, size := files(t, dir)
	if again.Usage() != size || size != int64(len(names))*fileSize {
		t.Errorf("the usage is %d, and the files have %d bytes: %v", again.Usage(), size, names)
	}
}

// TestLock: a block is locked against other users of the cache, and other blocks are not.
func TestLock(t *testing.T) {
	dir := testdir.New(t)
	a, b := source(t, open(t, dir, 1<<30), "a"), source(t, open(t, dir, 1<<30), "a")
	ctx := context.Background()
	unlock, err := a.Lock(ctx, 5)
	must(t, err)
	other, err := b.Lock(ctx, 6)
	must(t, err)
	other()
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := b.Lock(short, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a locked block: %v", err)
	}
	unlocked := make(chan struct{})
	time.AfterFunc(20*time.Millisecond, func() {
		unlock()
		close(unlocked)
	})
	again, err := b.Lock(ctx, 5)
	must(t, err)
	again()
	<-unlocked
}

// The blocks that churn uses, and a limit that does not hold all of them.
const (
	churnBlocks = 60
	churnLimit  = 40 * fileSize
)

// churn adds and reads random blocks; n < 0 is without an end.
func churn(dir string, limit int64, n int) error {
	c, err := Open(Options{Dir: dir, Limit: limit})
	if err != nil {
		return err
	}
	defer c.Close()
	for ; n != 0; n-- {
		key := fmt.Sprintf("key %d", rand.IntN(2))
		s, err := c.Source(key)
		if err != nil {
			return err
		}
		index := rand.Int64N(churnBlocks)
		err = check(s, key, index)
		if errors.Is(err, os.ErrNotExist) {
			err = put(s, key, index)
		}
		s.Close()
		if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// TestSixteenUsers: sixteen users of a cache that does not hold the blocks of all of them never read a
// wrong block, and never exceed the limit.
func TestSixteenUsers(t *testing.T) {
	dir := testdir.New(t)
	watch := open(t, dir, churnLimit)
	var users sync.WaitGroup
	for range 16 {
		users.Go(func() {
			if err := churn(dir, churnLimit, 60); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		users.Wait()
	}()
	for {
		if _, size := files(t, dir); size > churnLimit {
			t.Errorf("the files have %d bytes", size)
		}
		select {
		case <-done:
			if _, size := files(t, dir); size != watch.Usage() || watch.Damaged() != 0 {
				t.Errorf("the files have %d bytes, and the usage is %d", size, watch.Usage())
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestKilledUsers: users of a cache are killed at random moments. No remaining block is torn, no
// temporary file remains, and nothing is locked.
func TestKilledUsers(t *testing.T) {
	dir := testdir.New(t)
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	for range rounds {
		var users []*exec.Cmd
		for range 4 {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), churnEnv+"="+dir)
			cmd.Stderr = os.Stderr
			must(t, cmd.Start())
			users = append(users, cmd)
		}
		for _, cmd := range users {
			time.Sleep(time.Duration(rand.IntN(80)) * time.Millisecond)
			must(t, cmd.Process.Kill())
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(interface{ Signaled() bool }).Signaled() == false {
				t.Fatalf("a user ended by itself: %v", err)
			}
		}
		expectWhole(t, dir)
	}
	if names, _ := files(t, dir); len(names) == 0 {
		t.Error("no user has added a block")
	}
}

// expectWhole fails unless every block of the cache is whole, and the cache can be used.
func expectWhole(t *testing.T, dir string) {
	t.Helper()
	c, err := Open(Options{Dir: dir, Limit: churnLimit})
	must(t, err)
	defer c.Close()
	names, size := files(t, dir)
	if c.Usage() != size || size > churnLimit || size != int64(len(names))*fileSize {
		t.Errorf("%d files have %d bytes, and the usage is %d", len(names), size, c.Usage())
	}
	for i := range 2 {
		key := fmt.Sprintf("key %d", i)
		s, err := c.Source(key)
		must(t, err)
		for index := range int64(churnBlocks) {
			if err := check(s, key, index); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
		unlock, err := s.Lock(context.Background(), 0)
		must(t, err)
		unlock()
		must(t, put(s, key, 1000))
		s.remove(fileName(1000))
		s.Close()
	}
	if c.Damaged() != 0 {
		t.Errorf("%d blocks are damaged", c.Damaged())
	}
}

// TestStoppedUser: a process that holds the lock of the files does not hang another one.
func TestStoppedUser(t *testing.T) {
	c := open(t, testdir.New(t), 1<<30)
	s := source(t, c, "a")
	unlock, err := c.lockFiles(unix.LOCK_EX)
	must(t, err)
	defer unlock()
	if err := put(s, "a", 0); err == nil || errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "lock") {
		t.Errorf("it returns %v", err)
	}
}
