package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A frame is, in both directions and at any time:
//
//	version  1 byte
//	kind     1 byte   the kind of the frame
//	files    1 byte   the number of open files that go with it
//	name     1 byte   the length of the operation's name
//	length   4 bytes  the length of the rest, name included
//	id       8 bytes  the call that it belongs to
//	name and body
//
// Numbers are big-endian, and a body is a value as encoding/gob writes it. Frames are
// small: long data, such as a command's output or a file's content, goes through a pipe
// of its own, the end of which is one of the files. So the kernel bounds its memory,
// keeps its order, and lets no slow reader hold up another.
const (
	version    = 1
	headerSize = 16
	// maxFrame is more than the longest command line and environment that the kernel
	// takes.
	maxFrame = 8 << 20
	// maxFiles are the three standard streams of a command.
	maxFiles = 3
)

// Kind is the kind of a frame.
type Kind byte

const (
	// Call asks for an operation.
	Call Kind = iota + 1
	// Reply holds the result of a call.
	Reply
	// Cancel ends a call early; its body is the reason. The reply to the call itself
	// is the reply to it.
	Cancel
	// Note is a line for the user's log; its body is the text.
	Note
)

// Frame is one message.
type Frame struct {
	Kind  Kind
	ID    uint64
	Name  string
	Body  []byte
	Files []*os.File
}

// ErrFrame is wrapped by errors about bytes that are not a frame, or not the expected one.
var ErrFrame = errors.New("the keeper and its plugin do not understand each other")

// encode returns the frame in bytes, without its files.
func (f Frame) encode() ([]byte, error) {
	length := len(f.Name) + len(f.Body)
	if len(f.Name) > 255 || len(f.Files) > maxFiles || length > maxFrame {
		return nil, fmt.Errorf("%q cannot be sent: %d bytes and %d files are too much", f.Name, length, len(f.Files))
	}
	raw := make([]byte, headerSize, headerSize+length)
	raw[0], raw[1], raw[2], raw[3] = version, byte(f.Kind), byte(len(f.Files)), byte(len(f.Name))
	binary.BigEndian.PutUint32(raw[4:], uint32(length))
	binary.BigEndian.PutUint64(raw[8:], f.ID)
	return append(append(raw, f.Name...), f.Body...), nil
}

// decode reads a frame, and returns the number of files that belong to it. At the end of
// the stream the error is io.EOF.
func decode(r io.Reader) (f Frame, files int, err error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return Frame{}, 0, err
	}
	length, name := binary.BigEndian.Uint32(header[4:]), int(header[3])
	f = Frame{Kind: Kind(header[1]), ID: binary.BigEndian.Uint64(header[8:])}
	switch {
	case header[0] != version:
		return Frame{}, 0, fmt.Errorf("%w: a frame of version %d", ErrFrame, header[0])
	case f.Kind < Call || f.Kind > Note, header[2] > maxFiles, length > maxFrame, uint32(name) > length:
		return Frame{}, 0, fmt.Errorf("%w: a frame that begins with %x", ErrFrame, header)
	}
	// Memory is allocated as bytes arrive, not as the header announces them.
	var rest bytes.Buffer
	if _, err := io.CopyN(&rest, r, int64(length)); err != nil {
		return Frame{}, 0, fmt.Errorf("%w: a frame that ends early: %w", ErrFrame, err)
	}
	f.Name, f.Body = string(rest.Next(name)), rest.Bytes()
	return f, int(header[2]), nil
}

// Conn is one end of a connection. Frames may be sent by several goroutines and must be
// received by one.
type Conn struct {
	conn *net.UnixConn
	// writing keeps frames whole.
	writing sync.Mutex
	// arrived are received files that do not belong to a frame yet.
	arrived []*os.File
}

// NewConn returns the end of a connection. It takes over the socket.
func NewConn(conn *net.UnixConn) *Conn { return &Conn{conn: conn} }

// Send writes a frame. The caller closes the files.
func (c *Conn) Send(f Frame) error {
	raw, err := f.encode()
	if err != nil {
		return err
	}
	var rights []byte
	if len(f.Files) > 0 {
		rights = unix.UnixRights(descriptors(f.Files)...)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	n, _, err := c.conn.WriteMsgUnix(raw, rights, nil)
	if err == nil && n < len(raw) {
		_, err = c.conn.Write(raw[n:])
	}
	return err
}

// Note sends a line for the log of the other end. It is lost if that end is gone.
func (c *Conn) Note(format string, args ...any) { c.NoteAs("", format, args...) }

// NoteAs sends a line with a name, by which the other end distinguishes it from others.
func (c *Conn) NoteAs(name, format string, args ...any) {
	_ = c.Send(Frame{Kind: Note, Name: name, Body: fmt.Appendf(nil, format, args...)})
}

// Close closes the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// CloseWrite closes the sending direction: no frame follows.
func (c *Conn) CloseWrite() error { return c.conn.CloseWrite() }

// SetReadDeadline sets the time at which Receive fails; the zero time is never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// Peer returns the process at the other end, and its user, as the kernel knows them.
func (c *Conn) Peer() (*unix.Ucred, error) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return peer, peerErr
}

// descriptors returns the descriptors of files, and makes them blocking, as commands
// expect them.
func descriptors(files []*os.File) []int {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return fds
}

// Receive reads the next frame. The caller closes its files.
func (c *Conn) Receive() (Frame, error) {
	f, files, err := decode(reader{c})
	if err == nil && files != len(c.arrived) {
		err = fmt.Errorf("%w: %d files came instead of %d", ErrFrame, len(c.arrived), files)
	}
	f.Files, c.arrived = c.arrived, nil
	if err != nil {
		CloseFiles(f.Files)
		return Frame{}, err
	}
	return f, nil
}

// reader reads the bytes of a connection, and keeps the files that come with them.
type reader struct{ c *Conn }

// Read implements io.Reader. The kernel hands out the files of one message only together
// with its first byte.
func (r reader) Read(p []byte) (int, error) {
	rights := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, m, _, _, err := r.c.conn.ReadMsgUnix(p, rights)
	if m > 0 {
		files, parseErr := parseFiles(rights[:m])
		r.c.arrived = append(r.c.arrived, files...)
		err = errors.Join(err, parseErr)
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func parseFiles(rights []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // it is not about files
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "a stream of the plugin"))
		}
	}
	return files, nil
}

// CloseFiles closes the files of a frame.
func CloseFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Empty is the argument or the result of an operation that has none.
type Empty struct{}

// Marshal returns a value as the body of a frame.
func Marshal(value any) ([]byte, error) {
	if _, empty := value.(Empty); empty {
		return nil, nil
	}
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(value); err != nil {
		return nil, fmt.Errorf("cannot write a message: %w", err)
	}
	return body.Bytes(), nil
}

// Unmarshal reads the body of a frame into the variable that value points to.
func Unmarshal(body []byte, value any) error {
	if len(body) == 0 {
		return nil
	}
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(value); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return nil
}
