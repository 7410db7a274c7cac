package chroot

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

// answerLimit is how long a call that was cancelled may take to end.
const answerLimit = lastBreath + 5*time.Second

// outcome is the body of an answer.
type outcome struct {
	Failure *failure
	Result  []byte
}

// session is a keeper that was reached: one process, one connection.
type session struct {
	link link
	// pid is the keeper's.
	pid int
	// ended says how the program that started the keeper ended, once it has.
	ended func() string
	// log is told what the keeper notes.
	log func(format string, args ...any)

	mu    sync.Mutex
	last  uint64
	calls map[uint64]chan outcome
	// lost is closed when the connection is, with the reason in why.
	lost chan struct{}
	why  error
}

// listen gives every answer to its call and every note to the log, in the order in
// which they come, until the connection ends.
func (s *session) listen() {
	for {
		f, err := s.link.receive()
		if err != nil {
			s.lose()
			return
		}
		closeAll(f.files)
		switch f.kind {
		case answer:
			s.deliver(f.id, f.outcome())
		case note:
			s.log("%s", f.body)
		}
	}
}

// outcome is what an answer holds.
func (f frame) outcome() outcome {
	var o outcome
	if err := unpack(f.body, &o); err != nil {
		return outcome{Failure: failed(err)}
	}
	return o
}

func (s *session) deliver(id uint64, o outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if waiting, ok := s.calls[id]; ok {
		waiting <- o // it has room for one, and gets one
		delete(s.calls, id)
	}
}

// lose ends the session.
func (s *session) lose() {
	why := fmt.Errorf("%w: process %d has ended%s", ErrKeeperLost, s.pid, s.ended())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.why = why
	close(s.lost)
	s.link.conn.Close()
}

// isLost says whether the keeper is gone.
func (s *session) isLost() bool {
	select {
	case <-s.lost:
		return true
	default:
		return false
	}
}

// begin books a call.
func (s *session) begin() (id uint64, answered chan outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	answered = make(chan outcome, 1)
	s.calls[s.last] = answered
	return s.last, answered
}

func (s *session) forget(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, id)
}

// call has the keeper do something and waits for its end. When ctx ends the
// keeper is told so, and may take a moment to tell what came of it.
func (s *session) call(ctx context.Context, name string, body []byte, files []*os.File) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	id, answered := s.begin()
	defer s.forget(id)
	if err := s.link.send(frame{kind: call, id: id, name: name, body: body, files: files}); err != nil {
		return nil, s.sendError(err)
	}
	select {
	case o := <-answered:
		return o.Result, o.Failure.err()
	case <-s.lost:
		return nil, s.why
	case <-ctx.Done():
	}
	return nil, s.cancel(ctx, id, answered)
}

// sendError is why a frame could not be sent. A connection that breaks while it is
// written to will be found broken by its reader as well.
func (s *session) sendError(err error) error {
	if broken := new(net.OpError); !errors.As(err, &broken) {
		return err
	}
	select {
	case <-s.lost:
		return s.why
	case <-time.After(time.Second):
		return err
	}
}

// cancel ends a call. What the keeper says of it is told beside the cause, for it
// can be more: which process would not end, or who holds a mount.
func (s *session) cancel(ctx context.Context, id uint64, answered chan outcome) error {
	cause := context.Cause(ctx)
	_ = s.link.send(frame{kind: cancel, id: id, body: []byte(cause.Error())})
	select {
	case o := <-answered:
		switch {
		case o.Failure == nil:
			return cause
		case strings.Contains(o.Failure.Text, cause.Error()):
			return &farError{text: o.Failure.Text, is: []error{cause, o.Failure.err()}}
		}
		return fmt.Errorf("%w: %w", cause, o.Failure.err())
	case <-s.lost:
		return fmt.Errorf("%w; %w", cause, s.why)
	case <-time.After(answerLimit):
		return fmt.Errorf("%w, and the keeper does not end what it does", cause)
	}
}
