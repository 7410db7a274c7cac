package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// soon are limits for tests of failures; tests of successes have no limits that they could reach.
var (
	soon = fetch.Limits{Attempt: 50 * time.Millisecond, Total: 400 * time.Millisecond, Pause: time.Millisecond}
	slow = fetch.Limits{Attempt: time.Minute, Total: 5 * time.Minute, Pause: time.Millisecond}
)

func newFetcher(t testing.TB, o fetch.Options) *fetch.Fetcher {
	t.Helper()
	s := fetch.New(o)
	t.Cleanup(func() { s.Close(errors.New("the test has ended")) })
	return s
}

// cached returns a user of a cache.
func cached(t testing.TB, dir string, limit int64) *cache.Source {
	t.Helper()
	c, err := cache.Open(cache.Options{Dir: dir, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s, err := c.Source("test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// read reads a block and verifies its content.
func read(s *fetch.Fetcher, index int64) error {
	p, want := make([]byte, block.Size), make([]byte, block.Size)
	if err := s.ReadAt(p, index, 0); err != nil {
		return err
	}
	if sourcetest.Content(index, want); !bytes.Equal(p, want) {
		return fmt.Errorf("block %d has the wrong content", index)
	}
	return nil
}

func wantRead(t testing.TB, s *fetch.Fetcher, index int64) {
	t.Helper()
	if err := read(s, index); err != nil {
		t.Errorf("block %d: %v", index, err)
	}
}

var all = block.Range{Count: 1000}

// TestSecondUserFetchesNothing: a second build from the same source fetches nothing.
func TestSecondUserFetchesNothing(t *testing.T) {
	dir := testdir.New(t)
	for i, want := range []int{5, 0} {
		source := sourcetest.Pattern(all)
		s := newFetcher(t, fetch.Options{Source: source, Cache: cached(t, dir, 1<<30), Limits: slow})
		for index := range int64(5) {
			wantRead(t, s, index)
		}
		if got, _ := source.Requests(); got != want || s.Stats().Fetched != int64(want) || s.Failure() != nil {
			t.Errorf("user %d has fetched %d blocks, want %d", i, got, want)
		}
	}
}

// TestFromCache: a block that an earlier fetcher has left in the cache counts once, and one that this fetcher
// has fetched does not count, even if both are opened again because more blocks were read than stay open.
func TestFromCache(t *testing.T) {
	dir := testdir.New(t)
	first := newFetcher(t, fetch.Options{Source: sourcetest.Pattern(all), Cache: cached(t, dir, 1<<30), Limits: slow})
	for index := range int64(5) {
		wantRead(t, first, index)
	}
	if got := first.Stats(); got.FromCache != 0 {
		t.Errorf("with an empty cache: %+v", got)
	}
	second := newFetcher(t, fetch.Options{Source: sourcetest.Pattern(all), Cache: cached(t, dir, 1<<30), Limits: slow})
	for range 3 {
		for index := range int64(80) {
			wantRead(t, second, index)
		}
	}
	if got := second.Stats(); got.FromCache != 5 || got.Fetched != 75 {
		t.Errorf("with 5 of 80 blocks in the cache: %+v", got)
	}
}

// TestSixteenUsersFetchOnce: sixteen users that read the same blocks at the same time fetch each of
// them once.
func TestSixteenUsersFetchOnce(t *testing.T) {
	dir := testdir.New(t)
	source := sourcetest.Pattern(all)
	source.Latency = 5 * time.Millisecond
	var users sync.WaitGroup
	for range 16 {
		s := newFetcher(t, fetch.Options{Source: source, Cache: cached(t, dir, 1<<30), Limits: slow})
		for range 2 {
			users.Go(func() {
				for index := range int64(12) {
					wantRead(t, s, index)
				}
			})
		}
	}
	users.Wait()
	if n, most := source.Requests(); n != 12 || most != 1 {
		t.Errorf("%d requests for 12 blocks, %d for a block", n, most)
	}
}

// TestFaults: requests that fail for a while are repeated.
func TestFaults(t *testing.T) {
	for name, fault := range map[string]func(ctx context.Context, earlier int, p []byte) error{
		"error": func(context.Context, int, []byte) error { return errors.New("throttled") },
		"wrong content": func(_ context.Context, _ int, p []byte) error {
			p[77] ^= 1
			return nil
		},
		"no response": func(ctx context.Context, _ int, _ []byte) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			source := sourcetest.Pattern(all)
			source.Fault = func(ctx context.Context, _ int64, earlier int, p []byte) error {
				if earlier < 3 {
					return fault(ctx, earlier, p)
				}
				return nil
			}
			limits := slow
			if name == "no response" {
				limits.Attempt = 50 * time.Millisecond
			}
			s := newFetcher(t, fetch.Options{Source: source, Cache: cached(t, testdir.New(t), 1<<30), Limits: limits})
			wantRead(t, s, 9)
			if got := s.Stats(); got.Retries < 3 || got.Fetched != 1 || s.Failure() != nil {
				t.Errorf("the figures are %+v, the failure %v", got, s.Failure())
			}
		})
	}
}

// TestFailure: a request that fails for good fails the fetcher with the block and the reason. Blocks in
// the cache can still be read.
func TestFailure(t *testing.T) {
	for name, test := range map[string]struct {
		fault    func(ctx context.Context) error
		says     string
		attempts int
	}{
		"permanent":   {func(context.Context) error { return fmt.Errorf("no permission: %w", block.ErrPermanent) }, "no permission", 1},
		"repeated":    {func(context.Context) error { return errors.New("throttled") }, "throttled", 0},
		"no response": {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, "no response within", 0},
	} {
		t.Run(name, func(t *testing.T) {
			source := sourcetest.Pattern(all)
			source.Fault = func(ctx context.Context, index int64, _ int, _ []byte) error {
				if index == 3 {
					return test.fault(ctx)
				}
				return nil
			}
			s := newFetcher(t, fetch.Options{Source: source, Cache: cached(t, testdir.New(t), 1<<30), Limits: soon})
			wantRead(t, s, 1)
			err := read(s, 3)
			f := s.Failure()
			if err == nil || f == nil || f.Index != 3 || f.Write || !strings.Contains(f.Error(), test.says) || !strings.Contains(f.Error(), "block 3 ") {
				t.Fatalf("the error is %v, and the failure %v", err, f)
			}
			if test.attempts > 0 && f.Attempts != test.attempts {
				t.Errorf("after %d attempts", f.Attempts)
			}
			<-s.Failed()
			before, _ := source.Requests()
			if err := read(s, 4); err == nil || !strings.Contains(err.Error(), "block 3 ") {
				t.Errorf("a read after the failure: %v", err)
			}
			if after, _ := source.Requests(); after != before {
				t.Error("a block is requested after the failure")
			}
			wantRead(t, s, 1)
		})
	}
}

// TestClose ends a request whose response never comes.
func TestClose(t *testing.T) {
	source := sourcetest.Pattern(all)
	requested := make(chan struct{})
	source.Fault = func(ctx context.Context, _ int64, _ int, _ []byte) error {
		close(requested)
		<-ctx.Done()
		return ctx.Err()
	}
	s := fetch.New(fetch.Options{Source: source, Limits: slow})
	ended := make(chan error, 1)
	go func() { ended <- read(s, 0) }()
	<-requested
	s.Close(errors.New("aborted"))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "aborted") {
		t.Errorf("the read ended with %v", err)
	}
}

// TestSequentialReads: blocks ahead of a sequential read are requested, and no block twice.
func TestSequentialReads(t *testing.T) {
	source := sourcetest.Pattern(block.Range{Count: 100})
	s := newFetcher(t, fetch.Options{
		Source: source, Cache: cached(t, testdir.New(t), 1<<30), Limits: slow,
		Wanted: func(index int64) bool { return index < 100 },
	})
	for index := range int64(50) {
		s.Prefetch(index*block.Size, block.Size)
		wantRead(t, s, index)
	}
	wantRequests(t, source, 50+48) // 48 are ahead
	if _, most := source.Requests(); most != 1 {
		t.Errorf("%d requests for a block", most)
	}
	if got := s.Stats(); got.Prefetched == 0 {
		t.Errorf("the figures are %+v", got)
	}
}

// TestRandomReads: reads that are not sequential request nothing ahead.
func TestRandomReads(t *testing.T) {
	source := sourcetest.Pattern(all)
	s := newFetcher(t, fetch.Options{
		Source: source, Limits: slow, Wanted: func(int64) bool { return true },
	})
	for _, index := range []int64{500, 20, 300, 22, 700, 24, 100, 900, 502, 3} {
		s.Prefetch(index*block.Size, block.Size)
		wantRead(t, s, index)
	}
	if n, _ := source.Requests(); n != 10 {
		t.Errorf("%d requests", n)
	}
}

// wantRequests waits until a source has got a number of requests, and fails if there are more.
func wantRequests(t *testing.T, source *sourcetest.Source, want int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		n, _ := source.Requests()
		if n == want {
			return
		}
		if n > want || time.Now().After(deadline) {
			t.Fatalf("%d requests, want %d", n, want)
		}
	}
}

// TestPartialReads: reads of parts of adjacent blocks request at most as many blocks ahead as were read.
func TestPartialReads(t *testing.T) {
	source := sourcetest.Pattern(all)
	s := newFetcher(t, fetch.Options{
		Source: source, Limits: slow, Wanted: func(int64) bool { return true },
	})
	const part = block.Size / 8
	for index := range int64(24) { // as a program reads small files that are stored side by side
		s.Prefetch(index*block.Size+2*part, part)
		wantRead(t, s, index)
	}
	for n := range int64(24) { // as a program reads one file of three blocks
		s.Prefetch(100*block.Size+n*part, part)
		wantRead(t, s, 100+n/8)
	}
	wantRequests(t, source, 24+3+3)
}

// TestSwappedReads: a sequential read is recognized if its requests arrive in the wrong order.
func TestSwappedReads(t *testing.T) {
	source := sourcetest.Pattern(all)
	s := newFetcher(t, fetch.Options{
		Source: source, Cache: cached(t, testdir.New(t), 1<<30), Limits: slow, Wanted: func(int64) bool { return true },
	})
	for index := range int64(10) {
		index ^= 1
		s.Prefetch(index*block.Size, block.Size)
		wantRead(t, s, index)
	}
	wantRequests(t, source, 10+9) // 9 are ahead of the first one that arrived
}

// TestTwoStreams: two interleaved sequential reads are both recognized.
func TestTwoStreams(t *testing.T) {
	source := sourcetest.Pattern(all)
	s := newFetcher(t, fetch.Options{
		Source: source, Cache: cached(t, testdir.New(t), 1<<30), Limits: slow, Wanted: func(int64) bool { return true },
	})
	for index := range int64(10) {
		s.Prefetch(index*block.Size, block.Size)
		wantRead(t, s, index)
		s.Prefetch((500+index)*block.Size, block.Size)
		wantRead(t, s, 500+index)
	}
	wantRequests(t, source, 2*(10+10)) // 10 are ahead
}

// TestFailedPrefetch: a prefetch that fails does not fail the fetcher, and the read that needs the block
// requests it again.
func TestFailedPrefetch(t *testing.T) {
	source := sourcetest.Pattern(all)
	source.Fault = func(_ context.Context, index int64, earlier int, _ []byte) error {
		if index >= 3 && earlier == 0 {
			return errors.New("throttled")
		}
		return nil
	}
	s := newFetcher(t, fetch.Options{
		Source: source, Cache: cached(t, testdir.New(t), 1<<30), Limits: slow, Wanted: func(index int64) bool { return index < 20 },
	})
	for index := range int64(20) {
		s.Prefetch(index*block.Size, block.Size)
		wantRead(t, s, index)
	}
	if s.Failure() != nil {
		t.Errorf("the fetcher has failed: %v", s.Failure())
	}
}

// damage changes the content of a block in a cache.
func damage(t *testing.T, dir string, index int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "s-*", strconv.FormatInt(index, 16)))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 100_000); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedCache: a block that is damaged in the cache is fetched again.
func TestDamagedCache(t *testing.T) {
	dir := testdir.New(t)
	source := sourcetest.Pattern(all)
	s := newFetcher(t, fetch.Options{Source: source, Cache: cached(t, dir, 1<<30), Limits: slow})
	wantRead(t, s, 6)
	damage(t, dir, 6)
	wantRead(t, s, 6) // it is still open
	if n, _ := source.Requests(); n != 2 || s.Failure() != nil {
		t.Errorf("%d requests, the failure is %v", n, s.Failure())
	}
}

// TestDamagedBlockIsNotFromCache: a block of an earlier fetcher that is damaged in the cache is fetched, and
// counts as fetched.
func TestDamagedBlockIsNotFromCache(t *testing.T) {
	dir := testdir.New(t)
	wantRead(t, newFetcher(t, fetch.Options{Source: sourcetest.Pattern(all), Cache: cached(t, dir, 1<<30), Limits: slow}), 6)
	damage(t, dir, 6)
	s := newFetcher(t, fetch.Options{Source: sourcetest.Pattern(all), Cache: cached(t, dir, 1<<30), Limits: slow})
	wantRead(t, s, 6)
	if got := s.Stats(); got.FromCache != 0 || got.Fetched != 1 {
		t.Errorf("the figures are %+v", got)
	}
}

// TestUnusableFileInTheCache: a block whose file in the cache cannot be opened is fetched, and the disk
// does not fail.
func TestUnusableFileInTheCache(t *testing.T) {
	dir := testdir.New(t)
	source := sourcetest.Pattern(all)
	c := cached(t, dir, 1<<30)
	sources, err := filepath.Glob(filepath.Join(dir, "s-*"))
	if err != nil || len(sources) != 1 {
		t.Fatalf("%v, %v", sources, err)
	}
	if err := os.Symlink("6", filepath.Join(sources[0], "6")); err != nil {
		t.Fatal(err)
	}
	s := newFetcher(t, fetch.Options{Source: source, Cache: c, Limits: slow})
	wantRead(t, s, 6)
	if n, _ := source.Requests(); n != 1 || s.Failure() != nil {
		t.Errorf("%d requests, the failure is %v", n, s.Failure())
	}
}

// TestWithoutRoomInTheCache: blocks that the cache cannot keep are read all the same.
func TestWithoutRoomInTheCache(t *testing.T) {
	source := sourcetest.Pattern(all)
	s := newFetcher(t, fetch.Options{Source: source, Cache: cached(t, testdir.New(t), 0), Limits: slow})
	for index := range int64(40) {
		wantRead(t, s, index)
		wantRead(t, s, index)
	}
	if n, most := source.Requests(); n != 40 || most != 1 || s.Stats().Uncached != 40 {
		t.Errorf("%d requests, %d for a block, %+v", n, most, s.Stats())
	}
}

// TestSum: the checksum of a block is that of its content, and one that cannot be fetched does not fail
// the fetcher.
func TestSum(t *testing.T) {
	source := sourcetest.Pattern(all)
	source.Fault = func(_ context.Context, index int64, _ int, _ []byte) error {
		if index == 2 {
			return errors.New("gone")
		}
		return nil
	}
	s := newFetcher(t, fetch.Options{Source: source, Limits: soon})
	p := make([]byte, block.Size)
	sourcetest.Content(1, p)
	if sum, err := s.Sum(1); err != nil || sum != sha256.Sum256(p) {
		t.Errorf("block 1: %x, %v", sum, err)
	}
	if _, err := s.Sum(2); err == nil || s.Failure() != nil {
		t.Errorf("block 2: %v, the failure is %v", err, s.Failure())
	}
}

// TestList: all parts of the list are requested.
func TestList(t *testing.T) {
	source := sourcetest.Pattern(block.Range{First: 3, Count: 10}, block.Range{First: 50, Count: 1}, block.Range{First: 70, Count: 30})
	source.ListPart = 7
	s := newFetcher(t, fetch.Options{Source: source, Limits: slow})
	present := map[int64]int{}
	err := s.List(func(r block.Range) error {
		for i := range r.Count {
			present[r.First+i]++
		}
		return nil
	})
	if err != nil || len(present) != 41 || present[3] != 1 || present[12] != 1 || present[50] != 1 || present[99] != 1 {
		t.Errorf("%d blocks, %v: %v", len(present), err, present)
	}
}

// listed is a source with lists of a test's own.
type listed struct {
	*sourcetest.Source
	list func(from int64, n int) (next int64, err error)
	n    int
}

// List implements block.Source.
func (l *listed) List(_ context.Context, from int64) ([]block.Range, int64, error) {
	l.n++
	next, err := l.list(from, l.n)
	return nil, next, err
}

func TestListFaults(t *testing.T) {
	for name, test := range map[string]struct {
		list func(from int64, n int) (int64, error)
		says string
	}{
		"for a while": {func(_ int64, n int) (int64, error) {
			if n < 4 {
				return 0, errors.New("throttled")
			}
			return -1, nil
		}, ""},
		"for good":   {func(int64, int) (int64, error) { return 0, errors.New("throttled") }, "throttled"},
		"permanent":  {func(int64, int) (int64, error) { return 0, fmt.Errorf("no: %w", block.ErrPermanent) }, "no: permanent"},
		"in circles": {func(from int64, _ int) (int64, error) { return from, nil }, "continues at block 0"},
	} {
		t.Run(name, func(t *testing.T) {
			source := &listed{Source: sourcetest.Pattern(all), list: test.list}
			s := newFetcher(t, fetch.Options{Source: source, Limits: soon})
			err := s.List(func(block.Range) error { return nil })
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}
