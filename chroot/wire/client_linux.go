package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// replyLimit is how long a cancelled call may take to end: more than the server needs to
// kill a command.
const replyLimit = 15 * time.Second

// result is the body of a reply.
type result struct {
	Failure *failure
	Result  []byte
}

// Client is the calling end of a connection.
type Client struct {
	conn *Conn
	ClientOptions

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan result
	// done is closed when the connection has ended, with the reason in err.
	done chan struct{}
	err  error
}

// ClientOptions are the options of a Client. All are required.
type ClientOptions struct {
	// Errors are the known errors.
	Errors KnownErrors
	// Note is called with every note of the server, and its name.
	Note func(name, text string)
	// Lost returns the error of calls after the connection has ended. It is called once.
	Lost func() error
}

// NewClient returns a client that receives all frames of a connection from now on.
func NewClient(conn *Conn, o ClientOptions) *Client {
	c := &Client{conn: conn, ClientOptions: o, calls: map[uint64]chan result{}, done: make(chan struct{})}
	go c.listen()
	return c
}

// listen delivers replies and notes, in the order in which they come, until the
// connection ends.
func (c *Client) listen() {
	for {
		f, err := c.conn.Receive()
		if err != nil {
			c.end()
			return
		}
		CloseFiles(f.Files)
		switch f.Kind {
		case Reply:
			c.deliver(f.ID, c.resultOf(f))
		case Note:
			c.Note(f.Name, string(f.Body))
		}
	}
}

// resultOf returns the result that a reply holds.
func (c *Client) resultOf(f Frame) result {
	var r result
	if err := Unmarshal(f.Body, &r); err != nil {
		return result{Failure: c.Errors.encode(err)}
	}
	return r
}

func (c *Client) deliver(id uint64, r result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waiting, ok := c.calls[id]; ok {
		waiting <- r // it has room for one, and gets one
		delete(c.calls, id)
	}
}

// end marks the connection as ended.
func (c *Client) end() {
	err := c.Lost()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	close(c.done)
	c.conn.Close()
}

// Done returns a channel that is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns the error of Lost once the connection has ended, and nil before.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// CloseWrite closes the sending direction: no call follows.
func (c *Client) CloseWrite() error { return c.conn.CloseWrite() }

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// register returns the id of a new call, and the channel of its result.
func (c *Client) register() (id uint64, replied chan result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	replied = make(chan result, 1)
	c.calls[c.last] = replied
	return c.last, replied
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
}

// Call has the server run an operation, and waits for its end. If ctx ends first, the
// server is told, and given a moment to reply.
func (c *Client) Call(ctx context.Context, name string, body []byte, files ...*os.File) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	id, replied := c.register()
	defer c.forget(id)
	if err := c.conn.Send(Frame{Kind: Call, ID: id, Name: name, Body: body, Files: files}); err != nil {
		return nil, c.sendError(err)
	}
	select {
	case r := <-replied:
		return r.Result, c.Errors.decode(r.Failure)
	case <-c.done:
		return nil, c.err
	case <-ctx.Done():
	}
	return nil, c.cancel(ctx, id, replied)
}

// sendError returns the reason why a frame could not be sent. If the connection has
// broken, listen finds that too, and knows the reason.
func (c *Client) sendError(err error) error {
	if broken := new(net.OpError); !errors.As(err, &broken) {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-time.After(time.Second):
		return err
	}
}

// cancel ends a call. The error holds the server's own beside the cause, because that
// can say more, such as the process that does not end or that holds a mount.
func (c *Client) cancel(ctx context.Context, id uint64, replied chan result) error {
	cause := context.Cause(ctx)
	_ = c.conn.Send(Frame{Kind: Cancel, ID: id, Body: []byte(cause.Error())})
	select {
	case r := <-replied:
		switch {
		case r.Failure == nil:
			return cause
		case strings.Contains(r.Failure.Text, cause.Error()):
			return &remoteError{text: r.Failure.Text, is: []error{cause, c.Errors.decode(r.Failure)}}
		}
		return fmt.Errorf("%w: %w", cause, c.Errors.decode(r.Failure))
	case <-c.done:
		return fmt.Errorf("%w; %w", cause, c.err)
	case <-time.After(replyLimit):
		return fmt.Errorf("%w, and the keeper does not end what it does", cause)
	}
}
