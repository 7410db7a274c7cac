package lazydisk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cow"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/rpc"
)

// Client is a disk as seen by the process that has its source and uploads its changes.
type Client struct {
	peer *rpc.Peer

	mu      sync.Mutex
	failure *block.DiskError
	failed  chan struct{}
}

// NewClient serves a source to the block server at the other end of a connection. A disk without a
// source has a nil source.
func NewClient(conn net.Conn, source block.Source) *Client {
	if source == nil {
		source = noSource{}
	}
	c := &Client{failed: make(chan struct{})}
	c.peer = rpc.NewPeer(conn, rpc.ServeSource(source, c.handle))
	return c
}

// handle handles the requests of the block server that are not about the source.
func (c *Client) handle(_ context.Context, op rpc.Op, _ int64, body []byte) ([][]byte, func(), error) {
	if op != opFailed {
		return nil, nil, fmt.Errorf("unknown request %d", op)
	}
	f := &block.DiskError{}
	if err := json.Unmarshal(body, f); err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = f
		close(c.failed)
	}
	return nil, nil, nil
}

// Close closes the connection. Blocks that are not in the cache can no longer be read.
func (c *Client) Close() { c.peer.Close() }

// Lost returns a channel that is closed when the connection to the block server has ended.
func (c *Client) Lost() <-chan struct{} { return c.peer.Done() }

// pulse is the interval at which a block server is asked whether it responds.
const pulse = time.Second

// Silence returns nil when the block server has not responded for a time, or an error when ctx or the
// connection has ended before. Time in which this process did not run does not count.
func (c *Client) Silence(ctx context.Context, limit time.Duration) error {
	interval := min(pulse, limit/4)
	for missed := time.Duration(0); missed < limit; {
		asked, cancel := context.WithTimeout(ctx, interval)
		err := c.peer.Ping(asked)
		if err == nil {
			<-asked.Done()
			missed = 0
		} else {
			missed += interval
		}
		cancel()
		if ctx.Err() != nil || errors.Is(err, rpc.ErrClosed) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
	return nil
}

// Failed returns a channel that is closed when a read or a write has failed for good. The build
// must then fail with Failure as the reason.
func (c *Client) Failed() <-chan struct{} { return c.failed }

// Failure returns the first read or write that failed for good, or nil.
func (c *Client) Failure(ctx context.Context) (*block.DiskError, error) {
	c.mu.Lock()
	known := c.failure
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	var f *block.DiskError
	err := c.ask(ctx, opFailure, 0, &f)
	return f, err
}

// Stats returns the figures of the disk.
func (c *Client) Stats(ctx context.Context) (s Stats, err error) {
	err = c.ask(ctx, opStats, 0, &s)
	return s, err
}

// ask sends a request and decodes the reply.
func (c *Client) ask(ctx context.Context, op rpc.Op, arg int64, reply any) error {
	body, err := c.peer.Call(ctx, op, arg, nil)
	if err != nil {
		return fmt.Errorf("cannot ask the block server: %w", err)
	}
	return json.Unmarshal(body, reply)
}

// Change is a changed block with its content.
type Change struct {
	cow.Change
	// Data is the content. It is valid until the function that it was passed to returns.
	Data []byte
}

// indexes returns the indexes of the blocks that were written, in ascending order. Some of them
// may be equal to the source's.
func (c *Client) indexes(ctx context.Context) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for part := (changes{More: true}); part.More; {
			from := int64(0)
			if n := len(part.Indexes); n > 0 {
				from = part.Indexes[n-1] + 1
			}
			part = changes{}
			if err := c.ask(ctx, opChanges, from, &part); err != nil {
				yield(0, err)
				return
			}
			for _, index := range part.Indexes {
				if !yield(index, nil) {
					return
				}
			}
		}
	}
}

// Summary is the result of Changes.
type Summary struct {
	// Written is the number of blocks that were written, and Equal how many of them are equal to
	// the source's.
	Written, Equal int64
}

// Changes calls a function with each block that was written and differs from the source's, with its
// whole content. It calls it from a number of goroutines at once, in no particular order. Blocks of
// zeros are included: see cow.Change. Nothing may use the device meanwhile.
//
// If any read or write of the disk has failed, or written data was lost, Changes returns that error
// and calls nothing.
func (c *Client) Changes(ctx context.Context, workers int, call func(context.Context, Change) error) (sum Summary, err error) {
	if _, err := c.peer.Call(ctx, opSync, 0, nil); err != nil {
		return sum, fmt.Errorf("cannot read the changes of the disk: %w", err)
	}
	failure, err := c.Failure(ctx)
	if err == nil && failure != nil {
		err = failure
	}
	if err != nil {
		return sum, fmt.Errorf("cannot read the changes of the disk: %w", err)
	}
	return c.eachChange(ctx, workers, call)
}

// eachChange reads the blocks in a number of goroutines.
func (c *Client) eachChange(ctx context.Context, workers int, call func(context.Context, Change) error) (sum Summary, err error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	indexes := make(chan int64)
	for range max(1, workers) {
		group.Go(func() error {
			buffer := blockBuffers.Get().(*[block.Size]byte)
			defer blockBuffers.Put(buffer)
			for index := range indexes {
				equal, err := c.change(ctx, index, buffer[:], call)
				if err != nil {
					return err
				}
				mu.Lock()
				sum.Written++
				if equal {
					sum.Equal++
				}
				mu.Unlock()
			}
			return nil
		})
	}
	group.Go(func() error {
		defer close(indexes)
		for index, err := range c.indexes(ctx) {
			if err != nil {
				return err
			}
			select {
			case indexes <- index:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	err = group.Wait()
	return sum, err
}

// change reads a block and calls a function with it, unless it is equal to the source's.
func (c *Client) change(ctx context.Context, index int64, buffer []byte, call func(context.Context, Change) error) (equal bool, err error) {
	var flags [1]byte
	var sum block.Sum
	if _, err := c.peer.Call(ctx, opChange, index, nil, flags[:], sum[:], buffer); err != nil {
		return false, fmt.Errorf("cannot read the changed block %d: %w", index, err)
	}
	change := Change{decodeFlags(index, flags[0]), buffer}
	change.Sum = sum
	if change.Equal {
		return true, nil
	}
	return false, call(ctx, change)
}

// noSource is the source of an empty disk.
type noSource struct{}

// List implements block.Source.
func (noSource) List(context.Context, int64) ([]block.Range, int64, error) { return nil, -1, nil }

// Fetch implements block.Source.
func (noSource) Fetch(context.Context, int64, []byte) (block.Sum, error) {
	return block.Sum{}, fmt.Errorf("the disk has no source: %w", block.ErrPermanent)
}
