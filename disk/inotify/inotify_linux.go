package inotify

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The events to watch for; inotify(7).
const (
	CloseWrite = unix.IN_CLOSE_WRITE // a file that was open for writing was closed
	Create     = unix.IN_CREATE      // an entry was made in the directory
	Delete     = unix.IN_DELETE      // an entry was removed from the directory
	MovedTo    = unix.IN_MOVED_TO    // an entry was renamed into the directory
	Attrib     = unix.IN_ATTRIB      // owner, mode or link count changed
	// Overflow is not for Add; it is delivered if events were lost.
	Overflow = unix.IN_Q_OVERFLOW
)

// Event is one event.
type Event struct {
	// Path is the watched path, as it was given to Add; empty for Overflow.
	Path string
	// Name is the entry's name when Path is a directory.
	Name string
	// Mask has the bit of the event.
	Mask uint32
}

// Watcher is one inotify instance. Its methods may be called from several
// goroutines; only one may be in Read.
type Watcher struct {
	file *os.File

	mu    sync.Mutex
	paths map[int32]string
}

// New creates an instance. The kernel limits the number of instances of a user
// (/proc/sys/fs/inotify/max_user_instances).
func New() (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	// A non-blocking file uses Go's poller: Close and a deadline end a Read that waits.
	return &Watcher{file: os.NewFile(uintptr(fd), "inotify"), paths: map[int32]string{}}, nil
}

// Add watches a path for the events of mask. Adding a path again replaces its
// mask.
func (w *Watcher) Add(path string, mask uint32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	conn, err := w.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("cannot watch %s: %w", path, err)
	}
	var wd int
	var addErr error
	err = conn.Control(func(fd uintptr) {
		wd, addErr = unix.InotifyAddWatch(int(fd), path, mask)
	})
	if err == nil && addErr != nil {
		err = &os.PathError{Op: "inotify_add_watch", Path: path, Err: addErr}
	}
	if err != nil {
		return fmt.Errorf("cannot watch %s: %w", path, err)
	}
	w.paths[int32(wd)] = path
	return nil
}

// Read waits for an event and returns all queued events. The error is os.ErrClosed after
// Close and os.ErrDeadlineExceeded after the deadline.
func (w *Watcher) Read() ([]Event, error) {
	buf := make([]byte, 16<<10)
	n, err := w.file.Read(buf)
	if err != nil {
		return nil, err
	}
	return w.decode(buf[:n]), nil
}

// decode parses struct inotify_event: wd, mask, cookie, length of the name that follows,
// padded with NUL bytes.
func (w *Watcher) decode(buf []byte) []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var events []Event
	for len(buf) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(buf))
		mask := binary.NativeEndian.Uint32(buf[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[12:]))
		name, _, _ := strings.Cut(string(buf[unix.SizeofInotifyEvent:end]), "\x00")
		events = append(events, Event{Path: w.paths[wd], Name: name, Mask: mask})
		if mask&unix.IN_IGNORED != 0 {
			delete(w.paths, wd)
		}
		buf = buf[end:]
	}
	return events
}

// SetReadDeadline ends a Read at this time; the zero time is never.
func (w *Watcher) SetReadDeadline(t time.Time) error { return w.file.SetReadDeadline(t) }

// Close ends the instance and a Read that waits on it.
func (w *Watcher) Close() error { return w.file.Close() }
