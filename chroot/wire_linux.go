package chroot

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

	"golang.org/x/sys/unix"
)

// The wire between a plugin and its keeper is a Unix stream socket that carries
// frames, in both directions and at any time:
//
//	version  1 byte
//	kind     1 byte   what the rest means
//	files    1 byte   how many open files go with it
//	name     1 byte   the length of the operation's name
//	length   4 bytes  the length of what follows, name included
//	id       8 bytes  which call it belongs to
//	name and body
//
// Numbers are big-endian, a body is a value as encoding/gob writes it. Frames are
// small: what is long, such as a command's output or a file's content, goes
// through a pipe of its own, whose end is one of the files. So it is the kernel
// that bounds its memory, keeps its order, and lets no slow reader hold up
// another.
const (
	wireVersion = 1
	headerSize  = 16
	// longestFrame is more than the longest command line and environment that the
	// kernel would take.
	longestFrame = 8 << 20
	// mostFiles are the three standard streams of a command.
	mostFiles = 3
)

// kind is what a frame is.
type kind byte

const (
	// call asks for an operation; answer answers it, with an outcome.
	call kind = iota + 1
	answer
	// cancel ends a call early; its body is the reason. It is answered by the
	// call's own answer.
	cancel
	// note tells the plugin something for its user's log; its body is the text.
	note
)

// frame is one message.
type frame struct {
	kind  kind
	id    uint64
	name  string
	body  []byte
	files []*os.File
}

// errFrame is wrapped when bytes are no frame.
var errFrame = errors.New("the keeper and its plugin do not understand each other")

// encode is the frame in bytes; its files go beside it.
func (f frame) encode() ([]byte, error) {
	length := len(f.name) + len(f.body)
	if len(f.name) > 255 || len(f.files) > mostFiles || length > longestFrame {
		return nil, fmt.Errorf("%q cannot be sent: %d bytes and %d files are too much", f.name, length, len(f.files))
	}
	raw := make([]byte, headerSize, headerSize+length)
	raw[0], raw[1], raw[2], raw[3] = wireVersion, byte(f.kind), byte(len(f.files)), byte(len(f.name))
	binary.BigEndian.PutUint32(raw[4:], uint32(length))
	binary.BigEndian.PutUint64(raw[8:], f.id)
	return append(append(raw, f.name...), f.body...), nil
}

// decode reads a frame, and answers how many files belong to it. At the end of
// the stream the error is io.EOF.
func decode(r io.Reader) (f frame, files int, err error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return frame{}, 0, err
	}
	length, name := binary.BigEndian.Uint32(header[4:]), int(header[3])
	f = frame{kind: kind(header[1]), id: binary.BigEndian.Uint64(header[8:])}
	switch {
	case header[0] != wireVersion:
		return frame{}, 0, fmt.Errorf("%w: a frame of version %d", errFrame, header[0])
	case f.kind < call || f.kind > note, header[2] > mostFiles, length > longestFrame, uint32(name) > length:
		return frame{}, 0, fmt.Errorf("%w: a frame that begins with %x", errFrame, header)
	}
	// What is announced is believed only as far as it comes.
	var rest bytes.Buffer
	if _, err := io.CopyN(&rest, r, int64(length)); err != nil {
		return frame{}, 0, fmt.Errorf("%w: a frame that ends early: %w", errFrame, err)
	}
	f.name, f.body = string(rest.Next(name)), rest.Bytes()
	return f, int(header[2]), nil
}

// link is one end of the wire.
type link struct {
	conn *net.UnixConn
	// writing keeps frames whole.
	writing sync.Mutex
	// arrived are files that came and have not been claimed by a frame.
	arrived []*os.File
}

// send writes a frame. The files stay the caller's to close.
func (l *link) send(f frame) error {
	raw, err := f.encode()
	if err != nil {
		return err
	}
	var rights []byte
	if len(f.files) > 0 {
		rights = unix.UnixRights(descriptors(f.files)...)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	n, _, err := l.conn.WriteMsgUnix(raw, rights, nil)
	if err == nil && n < len(raw) {
		_, err = l.conn.Write(raw[n:])
	}
	return err
}

// descriptors also makes the files' ends blocking ones, as commands expect them.
func descriptors(files []*os.File) []int {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	return fds
}

// receive reads the next frame. Its files are the caller's to close.
func (l *link) receive() (frame, error) {
	f, files, err := decode(l)
	if err == nil && files != len(l.arrived) {
		err = fmt.Errorf("%w: %d files came instead of %d", errFrame, len(l.arrived), files)
	}
	f.files, l.arrived = l.arrived, nil
	if err != nil {
		closeAll(f.files)
		return frame{}, err
	}
	return f, nil
}

// Read reads bytes, and keeps the files that come with them. The kernel hands out
// the files of one message only together with its first byte.
func (l *link) Read(p []byte) (int, error) {
	rights := make([]byte, unix.CmsgSpace(4*mostFiles))
	n, m, _, _, err := l.conn.ReadMsgUnix(p, rights)
	if m > 0 {
		files, parseErr := parseFiles(rights[:m])
		l.arrived = append(l.arrived, files...)
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
			continue // it is about something else
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "a stream of the plugin"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// none is the argument or the answer of an operation that has none.
type none struct{}

// pack writes a value as the body of a frame.
func pack(value any) ([]byte, error) {
	if _, empty := value.(none); empty {
		return nil, nil
	}
	var body bytes.Buffer
	if err := gob.NewEncoder(&body).Encode(value); err != nil {
		return nil, fmt.Errorf("cannot write a message: %w", err)
	}
	return body.Bytes(), nil
}

// unpack reads what pack wrote into what value points to.
func unpack(body []byte, value any) error {
	if len(body) == 0 {
		return nil
	}
	if err := gob.NewDecoder(bytes.NewReader(body)).Decode(value); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}
