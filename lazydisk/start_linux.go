package lazydisk

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
	"github.com/packer-chroot/packer-plugin-chroot/disk/devnode"
	"github.com/packer-chroot/packer-plugin-chroot/disk/loopdev"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fusefile"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/loop"
)

// Server is a block server as seen by the process that has started it.
type Server struct {
	name    string
	cmd     *exec.Cmd
	control *wire.Conn
	output  *tail

	mu sync.Mutex
	// connection is nil until the mount is known.
	connection *fusefile.Connection
	device     *loop.Device
	path       string

	// ended is closed when the process has ended, with the reason in err.
	ended chan struct{}
	err   error
	// heard is closed when nothing will be received any more.
	detaching, released, failed, heard chan struct{}
}

// ErrServerLost is wrapped by errors about a block server that has ended.
var ErrServerLost = errors.New("the block server of the disk has ended")

// exitTimeout is how long a block server may take to end.
const exitTimeout = orphanTimeout + 5*time.Second

// SocketPair returns the ends of a connection between a block server and its client. The first one
// is for Start; the other one may be sent to the client's process.
func SocketPair() (server, client *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// Start starts a block server and attaches a loop device to its disk. A client must serve the source
// at the other end of the socket pair meanwhile. Start closes serverEnd. It needs root.
//
// If ctx ends before the device is attached, nothing is left.
func Start(ctx context.Context, o Options, serverEnd *os.File) (*Server, error) {
	defer serverEnd.Close()
	if o.Name == "" {
		o.Name = NamePrefix + rand.Text()
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	s, err := launch(o.Name, serverEnd)
	if err != nil {
		return nil, fmt.Errorf("cannot start the block server: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Abort() })
	err = s.attach(o) //nolint:contextcheck // nodes are maintained as long as the device is attached
	if !stop() || err != nil {
		return nil, s.abandon(ctx, err)
	}
	go s.listen()
	return s, nil
}

// abandon ends a server whose device could not be attached, and returns the error. The end of the
// process is only its reason if the server has ended by itself.
func (s *Server) abandon(ctx context.Context, err error) error {
	_ = s.Abort()
	<-s.ended
	s.forget()
	s.release() //nolint:contextcheck // ctx may have ended
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	err = fmt.Errorf("cannot attach the lazy disk: %w", err)
	if s.cmd.ProcessState.Exited() || errors.Is(err, io.EOF) {
		return s.lost(err)
	}
	return err
}

// launch starts the process.
func launch(name string, serverEnd *os.File) (*Server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	theirs, ours, err := SocketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	s := &Server{
		name: name, control: wire.NewConn(conn.(*net.UnixConn)), output: &tail{},
		ended: make(chan struct{}), detaching: make(chan struct{}), released: make(chan struct{}),
		failed: make(chan struct{}), heard: make(chan struct{}),
	}
	s.cmd = &exec.Cmd{
		Path: self, Args: []string{self, Arg, name}, Dir: "/", ExtraFiles: []*os.File{theirs, serverEnd},
		Stdout: s.output, Stderr: s.output, WaitDelay: time.Second,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := s.cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
		s.forget()
	}()
	return s, nil
}

// attach describes the disk to the server, and attaches a device to the file that it then serves.
func (s *Server) attach(o Options) error {
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	if err := s.control.Send(wire.Frame{Kind: wire.Call, Body: body}); err != nil {
		return err
	}
	ready, err := s.control.Receive()
	if err != nil {
		return err
	}
	defer wire.CloseFiles(ready.Files)
	if len(ready.Files) != 1 {
		return fmt.Errorf("the block server has sent %d files", len(ready.Files))
	}
	connection, err := fusefile.ConnectionOf(ready.Files[0])
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.connection = connection
	s.mu.Unlock()
	file, err := fusefile.Open(ready.Files[0], o.Name)
	if err != nil {
		return err
	}
	defer file.Close()
	device, err := loop.Attach(file, o.Name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.device, s.path = device, device.Path()
	s.mu.Unlock()
	return s.control.Send(wire.Frame{Kind: wire.Reply})
}

// listen receives the notes of the server.
func (s *Server) listen() {
	defer close(s.heard)
	for {
		f, err := s.control.Receive()
		if err != nil {
			return
		}
		wire.CloseFiles(f.Files)
		switch string(f.Body) {
		case noteDetaching:
			close(s.detaching)
		case noteReleased:
			close(s.released)
		case noteFailed:
			close(s.failed)
		}
	}
}

// lost adds the end of the process to an error, if it has ended.
func (s *Server) lost(err error) error {
	select {
	case <-s.ended:
	default:
		return err
	}
	how := s.output.String()
	if how == "" && s.err != nil {
		how = s.err.Error()
	}
	return fmt.Errorf("%w (%w: %s)", err, ErrServerLost, how)
}

// Name returns the name of the disk, for Release.
func (s *Server) Name() string { return s.name }

// Device returns the node of the loop device, such as /dev/loop3.
func (s *Server) Device() string { return s.path }

// PID returns the process ID of the block server.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Done returns a channel that is closed when the block server has ended, for whatever reason. All
// reads and writes of the device fail then.
func (s *Server) Done() <-chan struct{} { return s.ended }

// Failed returns a channel that is closed when a read or a write has failed for good.
func (s *Server) Failed() <-chan struct{} { return s.failed }

// Detach writes cached data to the disk and detaches the device. Nothing on it may be mounted. After
// that the client can read the changes. If it fails with loop.ErrInUse because ctx ended, the kernel
// detaches the device as soon as it is unused.
func (s *Server) Detach(ctx context.Context) error {
	s.mu.Lock()
	device := s.device
	s.device = nil
	s.mu.Unlock()
	var lost, err error
	if device == nil {
		err = loop.Detached(ctx, s.path, s.name)
	} else {
		lost = device.Flush()
		if sent := s.control.Send(wire.Frame{Kind: wire.Call}); sent == nil {
			_ = s.hear(ctx, s.detaching)
		}
		err = device.Detach(ctx)
	}
	if err == nil {
		err = s.hear(ctx, s.released)
	}
	if err = errors.Join(lost, err); err != nil {
		return s.lost(err)
	}
	return nil
}

// release lets the kernel detach the device as soon as it is unused. It waits a moment for that.
func (s *Server) release() {
	s.mu.Lock()
	device := s.device
	s.device = nil
	s.mu.Unlock()
	if device == nil {
		return
	}
	device.Release()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = loop.Detached(ctx, s.path, s.name)
}

// hear waits for a note of the server, or for its end.
func (s *Server) hear(ctx context.Context, note <-chan struct{}) error {
	select {
	case <-note:
		return nil
	case <-s.heard:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the block server, process %d, does not respond: %w", s.PID(), context.Cause(ctx))
	}
}

// Abort kills the block server and ends all reads and writes of the device with errors, also if the
// server does not respond. It does not detach the device.
func (s *Server) Abort() error {
	killed := s.cmd.Process.Kill()
	if errors.Is(killed, os.ErrProcessDone) {
		killed = nil
	}
	s.mu.Lock()
	connection := s.connection
	s.mu.Unlock()
	if connection == nil {
		return killed
	}
	return errors.Join(killed, connection.Abort())
}

// forget releases the connection, which ends with the process.
func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connection != nil {
		s.connection.Close()
	}
}

// Close ends the block server, and aborts it if it does not end in time. The device should be
// detached before; otherwise the kernel detaches it when it is unused.
func (s *Server) Close() error {
	s.control.Close()
	s.release()
	select {
	case <-s.ended:
		return nil
	case <-time.After(exitTimeout):
	}
	err := s.Abort()
	select {
	case <-s.ended:
		return err
	case <-time.After(exitTimeout):
		return errors.Join(err, fmt.Errorf("the block server, process %d, does not end", s.PID()))
	}
}

// Release detaches the device of a disk whose owner has ended. Nothing on it may be mounted. It
// returns nil if there is none. last is the device as far as it is known, and may be "": nodes of its
// partitions can remain in the /dev of a container after the kernel has detached it.
func Release(ctx context.Context, name, last string) error {
	devices, err := loop.Find(name)
	if err != nil {
		return err
	}
	var errs []error
	for _, device := range devices {
		errs = append(errs, loop.Clear(ctx, device, name))
	}
	if loopdev.IsNode(last) {
		errs = append(errs, devnode.Prune(last))
	}
	return errors.Join(errs...)
}

// Device returns the device of a disk that was started by a process that has ended, or "".
func Device(name string) (string, error) {
	devices, err := loop.Find(name)
	if err != nil || len(devices) == 0 {
		return "", err
	}
	return devices[0], nil
}
