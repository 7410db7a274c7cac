package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFramesKeepEveryByte(t *testing.T) {
	for _, f := range []Frame{
		{Kind: Call, ID: 1, Name: "run", Body: []byte("\x00\xff\n")},
		{Kind: Reply, ID: 1 << 63},
		{Kind: Cancel, ID: 7, Name: strings.Repeat("n", 255), Body: bytes.Repeat([]byte("x"), 1<<20)},
		{Kind: Note, Body: []byte("ending process 1 (init)")},
	} {
		raw, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, files, err := decode(bytes.NewReader(raw))
		if err != nil || files != 0 || got.Kind != f.Kind || got.ID != f.ID || got.Name != f.Name || !bytes.Equal(got.Body, f.Body) {
			t.Errorf("%v came back as %v with %d files, %v", f, got, files, err)
		}
		if _, _, err := decode(bytes.NewReader(raw[:len(raw)-1])); err == nil {
			t.Error("a frame that ends early was read")
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	for _, f := range []Frame{
		{Kind: Call, Body: make([]byte, maxFrame+1)},
		{Kind: Call, Name: strings.Repeat("n", 256)},
		{Kind: Call, Files: make([]*os.File, maxFiles+1)},
	} {
		if _, err := f.encode(); err == nil {
			t.Error("a frame that is too long was written")
		}
	}
	for name, header := range map[string]string{
		"version":      "\x02\x01\x00\x00\x00\x00\x00\x00........",
		"kind":         "\x01\x05\x00\x00\x00\x00\x00\x00........",
		"files":        "\x01\x01\x04\x00\x00\x00\x00\x00........",
		"name":         "\x01\x01\x00\x02\x00\x00\x00\x01........x",
		"length":       "\x01\x01\x00\x00\xff\xff\xff\xff........",
		"missing body": "\x01\x01\x00\x00\x00\x7f\xff\xff........",
	} {
		if f, _, err := decode(strings.NewReader(header)); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: read as %v, %v", name, f, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []Frame{{Kind: Call, ID: 1, Name: "run", Body: []byte("body")}, {Kind: Reply}, {Kind: Cancel, ID: 3, Body: []byte("why")}, {Kind: Note, Body: []byte("text")}} {
		raw, err := seed.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, files, err := decode(bytes.NewReader(raw))
		if err != nil {
			return
		}
		got.Files = make([]*os.File, files)
		again, err := got.encode()
		if err != nil || !bytes.HasPrefix(raw, again) {
			t.Errorf("%x was read as %v, which is written as %x, %v", raw, got, again, err)
		}
		// No body crashes its reader.
		for _, value := range []any{new(result), new([]string), new(map[string]int), new(string)} {
			_ = Unmarshal(got.Body, value)
		}
	})
}

// linked returns both ends of a connection in this process.
func linked(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*Conn
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "end")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		file.Close()
		ends = append(ends, NewConn(conn.(*net.UnixConn)))
	}
	return ends[0], ends[1]
}

// TestFilesComeWithTheirFrame sends frames without a pause, some longer than the kernel
// accepts at once.
func TestFilesComeWithTheirFrame(t *testing.T) {
	a, b := linked(t)
	const frames = 60
	go func() {
		for i := range frames {
			f := Frame{Kind: Call, ID: uint64(i), Body: make([]byte, i*i*i*4)}
			for n := range i % (maxFiles + 1) {
				r, w, err := os.Pipe()
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(w, "%d of %d", n, i)
				w.Close()
				f.Files = append(f.Files, r)
			}
			if err := a.Send(f); err != nil {
				t.Error(err)
			}
			CloseFiles(f.Files)
		}
		a.Close()
	}()
	for i := range frames {
		f, err := b.Receive()
		if err != nil || f.ID != uint64(i) || len(f.Body) != i*i*i*4 || len(f.Files) != i%(maxFiles+1) {
			t.Fatalf("frame %d came as %d with %d bytes and %d files, %v", i, f.ID, len(f.Body), len(f.Files), err)
		}
		for n, file := range f.Files {
			if got, err := io.ReadAll(file); string(got) != fmt.Sprintf("%d of %d", n, i) {
				t.Errorf("file %d of frame %d holds %q, %v", n, i, got, err)
			}
		}
		CloseFiles(f.Files)
	}
	if _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
}

func TestErrorsKeepKnownErrors(t *testing.T) {
	errType := errors.New("the kernel does not have this type of file system")
	known := KnownErrors{errType, os.ErrNotExist, os.ErrPermission, context.Canceled, unix.EBUSY}
	if err := known.decode(known.encode(nil)); err != nil {
		t.Errorf("no error became %v", err)
	}
	for _, err := range []error{
		fmt.Errorf("cannot mount: %w", errType),
		&os.PathError{Op: "open", Path: "/x", Err: unix.ENOENT},
		busy{},
		fmt.Errorf("ended: %w", context.Canceled),
		errors.New("plain"),
	} {
		body, packErr := Marshal(result{Failure: known.encode(err)})
		if packErr != nil {
			t.Fatal(packErr)
		}
		var r result
		if err := Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
		got := known.decode(r.Failure)
		if got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
		for _, e := range append([]error{unix.ENOENT, unix.ENOSPC}, known...) {
			if errors.Is(got, e) != errors.Is(err, e) {
				t.Errorf("%v: errors.Is(%v) is %v", err, e, errors.Is(got, e))
			}
		}
	}
}

// busy is an error that errors.Is matches with EBUSY, and that does not wrap it.
type busy struct{}

func (busy) Error() string { return "in use" }

func (busy) Is(target error) bool { return target == unix.EBUSY }
