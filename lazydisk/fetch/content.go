package fetch

import (
	"container/list"
	"sync/atomic"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// content is the content of a block, in the cache or in memory.
type content interface {
	ReadAt(p []byte, off int64) (int, error)
	Sum() block.Sum
	Close()
}

// inMemory is a block that the cache cannot keep.
type inMemory struct {
	sum  block.Sum
	data []byte
}

// ReadAt implements content.
func (m *inMemory) ReadAt(p []byte, off int64) (int, error) { return copy(p, m.data[off:]), nil }

// Sum implements content.
func (m *inMemory) Sum() block.Sum { return m.sum }

// Close implements content.
func (m *inMemory) Close() {}

// shared is a content that several reads use. It is closed when the last one has ended.
type shared struct {
	content
	index int64
	users atomic.Int32
}

func (s *shared) release() {
	if s.users.Add(-1) == 0 {
		s.Close()
	}
}

// recent holds the contents that were used last. Its owner locks it.
type recent struct {
	entries map[int64]*list.Element
	// order has the most recently used first.
	order    list.List
	inMemory int
}

// get returns a content for one user, or nil.
func (r *recent) get(index int64) *shared {
	e := r.entries[index]
	if e == nil {
		return nil
	}
	r.order.MoveToFront(e)
	s := e.Value.(*shared)
	s.users.Add(1)
	return s
}

// add adds a content, and returns it for one user.
func (r *recent) add(index int64, c content) *shared {
	r.drop(index)
	s := &shared{content: c, index: index}
	s.users.Store(2)
	if r.entries == nil {
		r.entries = map[int64]*list.Element{}
	}
	r.entries[index] = r.order.PushFront(s)
	if isInMemory(c) {
		r.inMemory++
	}
	r.shrink()
	return s
}

// shrink drops the least recently used contents that are too many.
func (r *recent) shrink() {
	for r.order.Len() > kept {
		r.drop(r.order.Back().Value.(*shared).index)
	}
	for e := r.order.Back(); e != nil && r.inMemory > keptInMemory; {
		s := e.Value.(*shared)
		e = e.Prev()
		if isInMemory(s.content) {
			r.drop(s.index)
		}
	}
}

// drop forgets a content.
func (r *recent) drop(index int64) {
	e := r.entries[index]
	if e == nil {
		return
	}
	s := r.order.Remove(e).(*shared)
	delete(r.entries, index)
	if isInMemory(s.content) {
		r.inMemory--
	}
	s.release()
}

func (r *recent) clear() {
	for index := range r.entries {
		r.drop(index)
	}
}

func isInMemory(c content) bool {
	_, ok := c.(*inMemory)
	return ok
}
