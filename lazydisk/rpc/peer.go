package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// stallTimeout is how long the other end may take to read a frame, or to send the rest of one.
const stallTimeout = 30 * time.Second

// maxHandlers is the number of requests that are handled at a time.
const maxHandlers = 64

// ErrClosed is wrapped by the errors of requests after the connection has ended.
var ErrClosed = errors.New("the other process has closed the connection")

// Handler handles a request. It returns the parts of the reply, which it must not change
// afterwards, and a function that is called when they have been sent; it may be nil.
type Handler func(ctx context.Context, op Op, arg int64, body []byte) (reply [][]byte, sent func(), err error)

// Peer is one end of a connection.
type Peer struct {
	conn    net.Conn
	handler Handler
	slots   chan struct{}

	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}

	writing sync.Mutex

	mu      sync.Mutex
	last    uint64
	calls   map[uint64]*call
	cancels map[uint64]context.CancelFunc
}

// call is a request of this end.
type call struct {
	// into are the buffers for the reply. If there are none, the reply is in body.
	into [][]byte
	body []byte
	err  error
	done chan struct{}
}

// NewPeer returns an end of a connection. Its handler runs in several goroutines at once.
func NewPeer(conn net.Conn, handler Handler) *Peer {
	p := &Peer{
		conn: conn, handler: handler, slots: make(chan struct{}, maxHandlers), done: make(chan struct{}),
		calls: map[uint64]*call{}, cancels: map[uint64]context.CancelFunc{},
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	go p.listen()
	return p
}

// Done returns a channel that is closed when the connection has ended.
func (p *Peer) Done() <-chan struct{} { return p.done }

// Close closes the connection and waits until nothing is received any more.
func (p *Peer) Close() {
	p.conn.Close()
	<-p.done
}

// listen receives frames until the connection ends.
func (p *Peer) listen() {
	err := p.receiveAll()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = ErrClosed
	} else {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	p.conn.Close()
	p.cancel(err)
	p.mu.Lock()
	calls := p.calls
	p.calls = nil
	p.mu.Unlock()
	for _, c := range calls {
		c.err = err
		close(c.done)
	}
	close(p.done)
}

func (p *Peer) receiveAll() error {
	for {
		if err := p.conn.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		f, err := readFrame(p.conn)
		if err != nil {
			return err
		}
		if err := p.conn.SetReadDeadline(time.Now().Add(stallTimeout)); err != nil {
			return err
		}
		switch f.kind {
		case kindReply:
			err = p.reply(f)
		case kindCancel:
			err = p.cancelled(f)
		default:
			err = p.request(f)
		}
		if err != nil {
			return err
		}
	}
}

// reply receives the reply to a request of this end. The reply to a request that was cancelled is
// discarded.
func (p *Peer) reply(f frame) error {
	p.mu.Lock()
	c := p.calls[f.id]
	delete(p.calls, f.id)
	p.mu.Unlock()
	if c == nil {
		_, err := io.CopyN(io.Discard, p.conn, int64(f.length))
		return err
	}
	err := c.receive(f, p.conn)
	if err != nil {
		c.err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	close(c.done)
	return err
}

// receive receives the body of a reply.
func (c *call) receive(f frame, r io.Reader) error {
	if f.status == statusOK && len(c.into) > 0 {
		for _, into := range c.into {
			f.length -= len(into)
			if f.length < 0 {
				return fmt.Errorf("%w: the reply is too short", errFrame)
			}
			if _, err := io.ReadFull(r, into); err != nil {
				return err
			}
		}
		if f.length > 0 {
			return fmt.Errorf("%w: the reply is too long", errFrame)
		}
		return nil
	}
	body := make([]byte, f.length)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	switch f.status {
	case statusOK:
		c.body = body
	case statusPermanent:
		c.err = permanent(body)
	default:
		c.err = errors.New(string(body))
	}
	return nil
}

// permanent is the text of an error of the other end that wraps block.ErrPermanent.
type permanent string

// Error implements error.
func (e permanent) Error() string { return string(e) }

// Unwrap is for errors.Is.
func (permanent) Unwrap() error { return block.ErrPermanent }

// cancelled ends the handling of a request.
func (p *Peer) cancelled(f frame) error {
	if f.length != 0 {
		return fmt.Errorf("%w: a cancellation has a body", errFrame)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if cancel := p.cancels[f.id]; cancel != nil {
		cancel()
	}
	return nil
}

// request receives a request and handles it in a new goroutine: while it is handled, replies that
// the handler waits for are received.
func (p *Peer) request(f frame) error {
	body := make([]byte, f.length)
	if _, err := io.ReadFull(p.conn, body); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(p.ctx)
	p.mu.Lock()
	p.cancels[f.id] = cancel
	p.mu.Unlock()
	go func() {
		defer cancel()
		if f.op == opPing {
			_ = p.send(frame{kind: kindReply, op: opPing, id: f.id}, nil) // an error ends the connection
		} else {
			p.handle(ctx, f, body)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.cancels, f.id)
	}()
	return nil
}

// handle handles a request and sends the reply.
func (p *Peer) handle(ctx context.Context, f frame, body []byte) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return
	}
	parts, sent, err := p.handler(ctx, f.op, f.arg, body)
	if sent != nil {
		defer sent()
	}
	answer := frame{kind: kindReply, op: f.op, id: f.id}
	if err != nil {
		answer.status = statusFailed
		if errors.Is(err, block.ErrPermanent) {
			answer.status = statusPermanent
		}
		text := err.Error()
		parts = [][]byte{[]byte(text[:min(len(text), maxBody)])}
	}
	_ = p.send(answer, parts) // an error ends the connection
}

// send sends a frame. If that fails, the connection ends.
func (p *Peer) send(f frame, parts [][]byte) error {
	f.length = 0
	for _, part := range parts {
		f.length += len(part)
	}
	buffers := append(net.Buffers{f.encode()}, parts...)
	p.writing.Lock()
	defer p.writing.Unlock()
	err := p.conn.SetWriteDeadline(time.Now().Add(stallTimeout))
	if err == nil {
		_, err = buffers.WriteTo(p.conn)
	}
	if err != nil {
		p.conn.Close()
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return nil
}

// Call sends a request and waits for the reply. If there are buffers, the reply must fill them
// exactly; otherwise it is returned. The buffers are not used after Call has returned.
func (p *Peer) Call(ctx context.Context, op Op, arg int64, body []byte, into ...[]byte) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c := &call{into: into, done: make(chan struct{})}
	id, err := p.register(c)
	if err != nil {
		return nil, err
	}
	if err := p.send(frame{kind: kindRequest, op: op, id: id, arg: arg}, [][]byte{body}); err != nil {
		<-c.done // listen ends it
		return nil, err
	}
	select {
	case <-c.done:
		return c.body, c.err
	case <-ctx.Done():
	}
	if p.forget(id) {
		_ = p.send(frame{kind: kindCancel, op: op, id: id}, nil)
		return nil, context.Cause(ctx)
	}
	<-c.done // it is being received
	return c.body, c.err
}

// Ping waits until the other end has responded to a request that does nothing.
func (p *Peer) Ping(ctx context.Context) error {
	_, err := p.Call(ctx, opPing, 0, nil)
	return err
}

func (p *Peer) register(c *call) (id uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == nil {
		return 0, context.Cause(p.ctx)
	}
	p.last++
	p.calls[p.last] = c
	return p.last, nil
}

// forget forgets a request and reports whether its reply is not being received yet.
func (p *Peer) forget(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, waits := p.calls[id]
	delete(p.calls, id)
	return waits
}
