package cache

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// queue is a number of users that wait for the lock of a cache.
type queue struct {
	t     *testing.T
	cache *Cache
	users sync.WaitGroup

	mu    sync.Mutex
	order []int64
}

// join starts a user, and waits until it is in the queue.
func (q *queue) join(how int) {
	q.t.Helper()
	ticket := atomic.LoadInt64(q.cache.usage.tickets()) + 1
	q.users.Go(func() {
		unlock, err := q.cache.lockFiles(how)
		if err != nil {
			q.t.Error(err)
			return
		}
		q.mu.Lock()
		q.order = append(q.order, ticket)
		q.mu.Unlock()
		unlock()
	})
	file, err := q.cache.dir.OpenFile(filesName, os.O_RDWR, 0o600)
	must(q.t, err)
	defer file.Close()
	for {
		taken := unix.Flock_t{Type: unix.F_WRLCK, Start: ticket, Len: 1}
		must(q.t, unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &taken))
		if taken.Type != unix.F_UNLCK || q.served(ticket) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// served reports whether a user has had the lock.
func (q *queue) served(ticket int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Contains(q.order, ticket)
}

// TestLockInTurn: users get the lock in the order in which they have asked for it, whether they
// share it or not.
func TestLockInTurn(t *testing.T) {
	for name, users := range map[string][]int{
		"exclusive":              slices.Repeat([]int{unix.LOCK_EX}, 12),
		"exclusive after shared": {unix.LOCK_EX, unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_SH, unix.LOCK_EX},
	} {
		t.Run(name, func(t *testing.T) {
			q := &queue{t: t, cache: open(t, testdir.New(t), 1<<30)}
			release, err := q.cache.lockFiles(unix.LOCK_SH)
			must(t, err)
			for _, how := range users {
				q.join(how)
				time.Sleep(3 * time.Millisecond) // so that it polls less often than the next one
			}
			release()
			q.users.Wait()
			if !slices.IsSorted(q.order) {
				t.Errorf("users got the lock in the order %v", q.order)
			}
		})
	}
}

// TestKilledWaiter: a user that ends while it waits does not block the others.
func TestKilledWaiter(t *testing.T) {
	c := open(t, testdir.New(t), 1<<30)
	gone, err := c.dir.OpenFile(filesName, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	must(t, lockByte(gone, unix.F_WRLCK, c.usage.ticket()))
	locked := make(chan error, 1)
	go func() {
		unlock, err := c.lockFiles(unix.LOCK_EX)
		if err == nil {
			unlock()
		}
		locked <- err
	}()
	select {
	case err := <-locked:
		t.Fatalf("the lock is not held back: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	gone.Close() // as the kernel does for a killed process
	must(t, <-locked)
}
