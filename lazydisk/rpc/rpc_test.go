package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
)

// linked returns a remote source, and the peers of both ends.
func linked(t testing.TB, source block.Source, other Handler) (Remote, *Peer) {
	t.Helper()
	a, b := net.Pipe()
	here := NewPeer(a, func(context.Context, Op, int64, []byte) ([][]byte, func(), error) {
		return nil, nil, errors.New("no requests come this way")
	})
	there := NewPeer(b, ServeSource(source, other))
	t.Cleanup(func() {
		here.Close()
		there.Close()
	})
	return Remote{here}, there
}

func refuse(_ context.Context, op Op, _ int64, _ []byte) ([][]byte, func(), error) {
	return nil, nil, fmt.Errorf("unknown request %d", op)
}

func TestRemoteSource(t *testing.T) {
	source := sourcetest.Pattern(block.Range{First: 1, Count: 20}, block.Range{First: 30, Count: 2})
	remote, _ := linked(t, source, refuse)
	ctx := context.Background()
	var group sync.WaitGroup
	for index := int64(1); index <= 20; index++ {
		group.Go(func() {
			p, want := make([]byte, block.Size), make([]byte, block.Size)
			sourcetest.Content(index, want)
			sum, err := remote.Fetch(ctx, index, p)
			if err != nil || sum != sha256.Sum256(want) || !bytes.Equal(p, want) {
				t.Errorf("block %d: %v, or the wrong content", index, err)
			}
		})
	}
	group.Wait()
	if present, next, err := remote.List(ctx, 15); err != nil || next != -1 || len(present) != 2 || present[0] != (block.Range{First: 15, Count: 6}) {
		t.Errorf("the list is %v, %d, %v", present, next, err)
	}
	if _, err := remote.Fetch(ctx, 25, make([]byte, block.Size)); !errors.Is(err, block.ErrPermanent) || !strings.Contains(err.Error(), "block 25 is not present") {
		t.Errorf("an absent block: %v", err)
	}
	if _, err := remote.Peer.Call(ctx, 99, 0, nil); err == nil || errors.Is(err, block.ErrPermanent) || !strings.Contains(err.Error(), "unknown request 99") {
		t.Errorf("an unknown request: %v", err)
	}
}

// TestPing: an end responds to a ping although it handles as many other requests as it can, and a ping
// to an end that does not respond ends with its context.
func TestPing(t *testing.T) {
	a, b := net.Pipe()
	free := make(chan struct{})
	here := NewPeer(a, refuse)
	there := NewPeer(b, func(context.Context, Op, int64, []byte) ([][]byte, func(), error) {
		<-free
		return nil, nil, nil
	})
	defer here.Close()
	defer there.Close()
	var busy sync.WaitGroup
	for range maxHandlers + 1 {
		busy.Go(func() { _, _ = here.Call(t.Context(), FirstOwn, 0, nil) })
	}
	for here.Ping(t.Context()) != nil || len(there.slots) < maxHandlers {
		time.Sleep(time.Millisecond)
	}
	if err := here.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	close(free)
	busy.Wait()

	silent, _ := net.Pipe()
	alone := NewPeer(silent, refuse)
	defer alone.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	go func() { <-ctx.Done(); _ = silent.SetWriteDeadline(time.Now()) }()
	if err := alone.Ping(ctx); err == nil {
		t.Error("a silent end responds")
	}
}

// TestLongList: a list that does not fit into a frame is continued.
func TestLongList(t *testing.T) {
	var ranges []block.Range
	for i := range int64(3 * maxRanges) {
		ranges = append(ranges, block.Range{First: 2 * i, Count: 1})
	}
	remote, _ := linked(t, sourcetest.Pattern(ranges...), refuse)
	count := 0
	for from := int64(0); from >= 0; {
		present, next, err := remote.List(context.Background(), from)
		if err != nil || next >= 0 && next <= from {
			t.Fatalf("%d, %v", next, err)
		}
		count, from = count+len(present), next
	}
	if count != len(ranges) {
		t.Errorf("%d ranges", count)
	}
}

// TestCancelledCall: a request that is cancelled ends at both ends, and the connection can be used.
func TestCancelledCall(t *testing.T) {
	source := sourcetest.Pattern(block.Range{Count: 2})
	ended := make(chan struct{})
	source.Fault = func(ctx context.Context, index int64, _ int, _ []byte) error {
		if index == 0 {
			<-ctx.Done()
			close(ended)
			return ctx.Err()
		}
		return nil
	}
	remote, _ := linked(t, source, refuse)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := remote.Fetch(ctx, 0, make([]byte, block.Size)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
	<-ended
	if _, err := remote.Fetch(context.Background(), 1, make([]byte, block.Size)); err != nil {
		t.Error(err)
	}
}

// TestClosedConnection: requests fail, and for a source the error is permanent.
func TestClosedConnection(t *testing.T) {
	source := sourcetest.Pattern(block.Range{Count: 1})
	requested := make(chan struct{})
	source.Fault = func(ctx context.Context, _ int64, _ int, _ []byte) error {
		close(requested)
		<-ctx.Done()
		return ctx.Err()
	}
	remote, there := linked(t, source, refuse)
	go func() {
		<-requested
		there.Close()
	}()
	for range 2 {
		if _, err := remote.Fetch(context.Background(), 0, make([]byte, block.Size)); !errors.Is(err, block.ErrPermanent) || !errors.Is(err, ErrClosed) {
			t.Errorf("the error is %v", err)
		}
	}
}

// TestWrongReplies: replies of the wrong length end the connection.
func TestWrongReplies(t *testing.T) {
	for _, n := range []int{0, 9, 11} {
		remote, _ := linked(t, sourcetest.Pattern(), func(context.Context, Op, int64, []byte) ([][]byte, func(), error) {
			return [][]byte{make([]byte, n)}, nil, nil
		})
		if _, err := remote.Peer.Call(context.Background(), 50, 0, nil, make([]byte, 10)); !errors.Is(err, ErrClosed) {
			t.Errorf("%d bytes instead of 10: %v", n, err)
		}
	}
}

// TestRequestsInBothDirections: a handler may send requests to the end that waits for its reply.
func TestRequestsInBothDirections(t *testing.T) {
	a, b := net.Pipe()
	var there *Peer
	ready := make(chan struct{})
	here := NewPeer(a, func(_ context.Context, _ Op, arg int64, _ []byte) ([][]byte, func(), error) {
		return [][]byte{fmt.Appendf(nil, "inner %d", arg)}, nil, nil
	})
	there = NewPeer(b, func(ctx context.Context, op Op, arg int64, _ []byte) ([][]byte, func(), error) {
		<-ready
		inner, err := there.Call(ctx, op, arg+1, nil)
		return [][]byte{[]byte("outer "), inner}, nil, err
	})
	close(ready)
	defer there.Close()
	defer here.Close()
	var group sync.WaitGroup
	for i := range int64(3 * maxHandlers) {
		group.Go(func() {
			got, err := here.Call(context.Background(), 9, i, nil)
			if want := fmt.Sprintf("outer inner %d", i+1); err != nil || string(got) != want {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
		})
	}
	group.Wait()
}

// FuzzFrame: a frame that is accepted is encoded as it was read, and a body is never longer than allowed.
func FuzzFrame(f *testing.F) {
	f.Add((&frame{kind: kindRequest, op: opFetch, id: 7, arg: -1}).encode())
	f.Add((&frame{kind: kindReply, status: statusPermanent, length: maxBody, id: 1 << 63}).encode())
	f.Add(bytes.Repeat([]byte{0xff}, headerSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := readFrame(bytes.NewReader(raw))
		if err != nil {
			if !errors.Is(err, errFrame) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		if got.length < 0 || got.length > maxBody || !bytes.Equal(got.encode(), raw[:headerSize]) {
			t.Errorf("%x is read as %+v", raw, got)
		}
	})
}

// FuzzPeer: bytes from the other end never crash a peer.
func FuzzPeer(f *testing.F) {
	f.Add((&frame{kind: kindRequest, op: opList}).encode())
	f.Add((&frame{kind: kindReply, id: 1}).encode())
	f.Add((&frame{kind: kindCancel, id: 1, length: 1}).encode())
	source := sourcetest.Pattern(block.Range{Count: 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, b := net.Pipe()
		p := NewPeer(a, ServeSource(source, refuse))
		go func() { _, _ = io.Copy(io.Discard, b) }()
		if err := b.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		_, err := b.Write(raw)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("it does not read")
		}
		b.Close()
		p.Close()
	})
}
