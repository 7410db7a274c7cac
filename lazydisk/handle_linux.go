package lazydisk

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/link"
)

// handle handles a request of the client.
func (b *backing) handle(op link.Op, arg int64) ([][]byte, func(), error) {
	switch op {
	case opChanges:
		return encoded(b.changes(arg))
	case opChange:
		return b.change(arg)
	case opSync:
		return nil, nil, b.seal()
	case opStats:
		return encoded(b.stats(), nil)
	case opFailure:
		return encoded(b.supply.Failure(), nil)
	default:
		return nil, nil, fmt.Errorf("unknown request %d", op)
	}
}

// seal returns an error unless everything that was written can be read.
func (b *backing) seal() error {
	select {
	case <-b.released:
		return b.image.Sync()
	default:
		return errAttached
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
