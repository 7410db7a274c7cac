package lazydisk

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/image"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/link"
)

// The requests of a client to its block server, and opFailed, which goes the other way.
const (
	// opChanges returns the indexes of changed blocks, beginning with the argument.
	opChanges = link.FirstOwn + iota
	// opChange returns a changed block.
	opChange
	opSync
	opStats
	opFailure
	opFailed
)

// changesPart is the number of indexes in a reply to opChanges.
const changesPart = 8192

// changes is the reply to opChanges. More is false at the end.
type changes struct {
	Indexes []int64
	More    bool
}

// blockBuffers holds buffers for blocks.
var blockBuffers = sync.Pool{New: func() any { return new([block.Size]byte) }}

// handle handles a request of the client.
func (b *backing) handle(op link.Op, arg int64) ([][]byte, func(), error) {
	switch op {
	case opChanges:
		return encoded(b.changes(arg))
	case opChange:
		return b.change(arg)
	case opSync:
		return nil, nil, b.image.Sync()
	case opStats:
		return encoded(b.stats(), nil)
	case opFailure:
		return encoded(b.supply.Failure(), nil)
	default:
		return nil, nil, fmt.Errorf("unknown request %d", op)
	}
}

func encoded(value any, err error) ([][]byte, func(), error) {
	if err != nil {
		return nil, nil, err
	}
	body, err := json.Marshal(value)
	return [][]byte{body}, nil, err
}

func (b *backing) changes(from int64) (c changes, err error) {
	for {
		index, err := b.image.NextChange(from)
		if err != nil || index == b.overlay.Blocks() {
			return c, err
		}
		if c.More = len(c.Indexes) == changesPart; c.More {
			return c, nil
		}
		c.Indexes = append(c.Indexes, index)
		from = index + 1
	}
}

// The flags of a changed block in a reply to opChange, which is the flags, the checksum and the
// content.
const (
	flagZero = 1 << iota
	flagInParent
	flagEqual
)

func (b *backing) change(index int64) ([][]byte, func(), error) {
	if index < 0 || index >= b.overlay.Blocks() {
		return nil, nil, fmt.Errorf("the disk has no block %d", index)
	}
	buffer := blockBuffers.Get().(*[block.Size]byte)
	sent := func() { blockBuffers.Put(buffer) }
	c, err := b.image.Change(index, buffer[:])
	if err != nil {
		return nil, sent, err
	}
	return [][]byte{{encodeFlags(c)}, c.Sum[:], buffer[:]}, sent, nil
}

func encodeFlags(c image.Change) (flags byte) {
	if c.Zero {
		flags |= flagZero
	}
	if c.InParent {
		flags |= flagInParent
	}
	if c.Equal {
		flags |= flagEqual
	}
	return flags
}

func decodeFlags(index int64, flags byte) image.Change {
	return image.Change{Index: index, Zero: flags&flagZero != 0, InParent: flags&flagInParent != 0, Equal: flags&flagEqual != 0}
}

func (b *backing) stats() Stats {
	s := Stats{Stats: b.supply.Stats()}
	s.Read, s.Written, s.Discarded = b.image.Traffic()
	if b.cache != nil {
		s.Damaged, s.Cached = b.cache.Damaged(), b.cache.Usage()
	}
	if b.cacheErr != nil {
		s.CacheError = b.cacheErr.Error()
	}
	return s
}

// notify informs the client of the first failure.
func (b *backing) notify() {
	body, err := json.Marshal(b.supply.Failure())
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = b.peer.Call(ctx, opFailed, 0, body) // a client that is gone does not need it
}
