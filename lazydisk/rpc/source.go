package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// The operations of the process that has the source.
const (
	opList Op = iota + 1
	opFetch
	// opPing has an empty reply. Every end handles it, however many other requests it handles.
	opPing
	// FirstOwn is the first operation that is free for other use.
	FirstOwn
)

// list is a part of the list of present blocks.
type list struct {
	Present []block.Range
	Next    int64
}

// Remote is the source of the process at the other end.
type Remote struct{ Peer *Peer }

// List implements block.Source.
func (r Remote) List(ctx context.Context, from int64) ([]block.Range, int64, error) {
	body, err := r.Peer.Call(ctx, opList, from, nil)
	if err != nil {
		return nil, 0, lost(err)
	}
	var l list
	if err := json.Unmarshal(body, &l); err != nil {
		return nil, 0, fmt.Errorf("cannot decode the list of present blocks: %w", err)
	}
	return l.Present, l.Next, nil
}

// Fetch implements block.Source.
func (r Remote) Fetch(ctx context.Context, index int64, p []byte) (sum block.Sum, err error) {
	_, err = r.Peer.Call(ctx, opFetch, index, nil, sum[:], p)
	return sum, lost(err)
}

// lost marks an error as permanent if the process that has the source is gone.
func lost(err error) error {
	if err != nil && errors.Is(err, ErrClosed) {
		return fmt.Errorf("the process that fetches blocks is gone: %w: %w", block.ErrPermanent, err)
	}
	return err
}

// maxRanges is the number of ranges in a reply, which must fit into a frame.
const maxRanges = 8192

// ServeSource returns a handler of the requests of a Remote, which passes other requests on.
func ServeSource(source block.Source, other Handler) Handler {
	buffers := sync.Pool{New: func() any { return new([block.Size]byte) }}
	return func(ctx context.Context, op Op, arg int64, body []byte) ([][]byte, func(), error) {
		switch op {
		case opList:
			reply, err := encodeList(source.List(ctx, arg))
			return [][]byte{reply}, nil, err
		case opFetch:
			buffer := buffers.Get().(*[block.Size]byte)
			sum, err := source.Fetch(ctx, arg, buffer[:])
			return [][]byte{sum[:], buffer[:]}, func() { buffers.Put(buffer) }, err
		default:
			return other(ctx, op, arg, body)
		}
	}
}

// encodeList returns a reply with at most maxRanges ranges.
func encodeList(present []block.Range, next int64, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if len(present) > maxRanges {
		next = present[maxRanges].First
		present = present[:maxRanges]
	}
	return json.Marshal(list{present, next})
}
