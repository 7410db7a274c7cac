package wire

import (
	"context"
	"errors"
	"sync"
)

// Server is the end of a connection that runs operations.
type Server struct {
	conn *Conn
	ServerOptions

	mu      sync.Mutex
	running map[uint64]context.CancelCauseFunc
	calls   sync.WaitGroup
}

// ServerOptions are the options of a Server. All are required.
type ServerOptions struct {
	// Errors are the known errors.
	Errors KnownErrors
	// Do runs an operation. Its ctx ends if the call is cancelled or the client is gone.
	// The server closes the files of the frame afterwards.
	Do func(ctx context.Context, f Frame) (result []byte, err error)
	// Lost is the cause with which the contexts of running operations end if the client
	// is gone.
	Lost error
}

// NewServer returns a server on a connection.
func NewServer(conn *Conn, o ServerOptions) *Server {
	return &Server{conn: conn, ServerOptions: o, running: map[uint64]context.CancelCauseFunc{}}
}

// Serve runs each call in a goroutine of its own, until the connection ends. It then
// cancels those that run, and does not wait for them; see Wait.
func (s *Server) Serve() {
	for {
		f, err := s.conn.Receive()
		if err != nil {
			break
		}
		switch f.Kind {
		case Call:
			s.begin(f)
		case Cancel:
			CloseFiles(f.Files)
			s.cancel(f.ID, errors.New(string(f.Body)))
		default:
			CloseFiles(f.Files)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cancel := range s.running {
		cancel(s.Lost)
	}
}

// Wait waits until all operations have ended.
func (s *Server) Wait() { s.calls.Wait() }

// begin starts an operation.
func (s *Server) begin(f Frame) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s.mu.Lock()
	s.running[f.ID] = cancel
	s.mu.Unlock()
	s.calls.Go(func() {
		value, err := s.Do(ctx, f)
		CloseFiles(f.Files)
		s.mu.Lock()
		delete(s.running, f.ID)
		s.mu.Unlock()
		cancel(nil)
		s.reply(f.ID, result{Result: value, Failure: s.Errors.encode(err)})
	})
}

// reply sends a result. If that fails the client is gone, which Serve finds.
func (s *Server) reply(id uint64, r result) {
	body, err := Marshal(r)
	if err == nil {
		err = s.conn.Send(Frame{Kind: Reply, ID: id, Body: body})
	}
	if err != nil {
		s.conn.Close()
	}
}

func (s *Server) cancel(id uint64, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.running[id]; ok {
		cancel(cause)
	}
}
