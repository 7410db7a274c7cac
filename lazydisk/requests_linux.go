package lazydisk

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/rpc"
)

// handle handles a request of the client.
func (d *servedDisk) handle(op rpc.Op, arg int64) ([][]byte, func(), error) {
	switch op {
	case opChanges:
		return encoded(d.changes(arg))
	case opChange:
		return d.change(arg)
	case opSync:
		return nil, nil, d.seal()
	case opStats:
		return encoded(d.stats(), nil)
	case opFailure:
		return encoded(d.fetcher.Failure(), nil)
	default:
		return nil, nil, fmt.Errorf("unknown request %d", op)
	}
}

// seal returns an error unless everything that was written can be read.
func (d *servedDisk) seal() error {
	select {
	case <-d.released:
		return d.content.Sync()
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

func (d *servedDisk) changes(from int64) (c changes, err error) {
	for {
		index, err := d.content.NextChange(from)
		if err != nil || index == d.overlay.Blocks() {
			return c, err
		}
		if c.More = len(c.Indexes) == changesPart; c.More {
			return c, nil
		}
		c.Indexes = append(c.Indexes, index)
		from = index + 1
	}
}

func (d *servedDisk) change(index int64) ([][]byte, func(), error) {
	if index < 0 || index >= d.overlay.Blocks() {
		return nil, nil, fmt.Errorf("the disk has no block %d", index)
	}
	buffer := blockBuffers.Get().(*[block.Size]byte)
	sent := func() { blockBuffers.Put(buffer) }
	c, err := d.content.Change(index, buffer[:])
	if err != nil {
		return nil, sent, err
	}
	return [][]byte{{encodeFlags(c)}, c.Sum[:], buffer[:]}, sent, nil
}

func (d *servedDisk) stats() Stats {
	s := Stats{Stats: d.fetcher.Stats()}
	s.Read, s.Written = d.content.Traffic()
	switch err := d.fetcher.CacheError(); {
	case d.cacheErr != nil:
		s.CacheError = d.cacheErr.Error()
	case err != nil:
		s.CacheError = err.Error()
	}
	if d.cache != nil {
		s.Damaged = d.cache.Damaged()
	}
	return s
}

// notify informs the client of the first failure.
func (d *servedDisk) notify() {
	body, err := json.Marshal(d.fetcher.Failure())
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, _ = d.peer.Call(ctx, opFailed, 0, body) // a client that is gone does not need it
}
