package chroot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestQuote(t *testing.T) {
	for word, want := range map[string]string{
		"":                       "''",
		"/usr/bin/packer-plugin": "/usr/bin/packer-plugin",
		"/opt/my plugins/x":      "'/opt/my plugins/x'",
		"it's":                   `'it'\''s'`,
		"a;b":                    "'a;b'",
		"$(id)":                  "'$(id)'",
	} {
		if got := quote(word); got != want {
			t.Errorf("%q is quoted as %s, want %s", word, got, want)
		}
	}
}

func TestInvitationIsPlain(t *testing.T) {
	for _, inv := range []invitation{{"/tmp/a b", 0, "ABC"}, {"/tmp/x.y$z\xff\n", 1<<32 - 1, "234"}} {
		arg := inv.arg()
		if got, err := readInvitation(arg); err != nil || got != inv {
			t.Errorf("%+v came back as %+v, %v", inv, got, err)
		}
		if quote(arg) != arg {
			t.Errorf("%q means something to a shell", arg)
		}
	}
	if inv, err := readInvitation("!.x"); err == nil {
		t.Errorf("it was read as %+v", inv)
	}
}

// FuzzReadInvitation: what is read as an invitation is one, and is written as it was read.
func FuzzReadInvitation(f *testing.F) {
	f.Add(invitation{"/tmp/a b", 1000, "ABC"}.arg())
	f.Add("L3RtcA.00.x")
	f.Add("..")
	f.Fuzz(func(t *testing.T, arg string) {
		inv, err := readInvitation(arg)
		if err != nil {
			return
		}
		again, err := readInvitation(inv.arg())
		if err != nil || again != inv || inv.secret == "" || !filepath.IsAbs(inv.dir) {
			t.Errorf("%q is read as %+v, and that as %+v, %v", arg, inv, again, err)
		}
	})
}

func TestFramesKeepEveryByte(t *testing.T) {
	for _, f := range []frame{
		{kind: call, id: 1, name: "run", body: []byte("\x00\xff\n")},
		{kind: answer, id: 1 << 63},
		{kind: cancel, id: 7, name: strings.Repeat("n", 255), body: bytes.Repeat([]byte("x"), 1<<20)},
		{kind: note, body: []byte("ending process 1 (init)")},
	} {
		raw, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, files, err := decode(bytes.NewReader(raw))
		if err != nil || files != 0 || got.kind != f.kind || got.id != f.id || got.name != f.name || !bytes.Equal(got.body, f.body) {
			t.Errorf("%v came back as %v with %d files, %v", f, got, files, err)
		}
		if _, _, err := decode(bytes.NewReader(raw[:len(raw)-1])); err == nil {
			t.Error("a frame that ends early was read")
		}
	}
}

func TestFramesAreBounded(t *testing.T) {
	for _, f := range []frame{
		{kind: call, body: make([]byte, longestFrame+1)},
		{kind: call, name: strings.Repeat("n", 256)},
		{kind: call, files: make([]*os.File, mostFiles+1)},
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
		if f, _, err := decode(strings.NewReader(header)); !errors.Is(err, errFrame) {
			t.Errorf("%s: read as %v, %v", name, f, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []frame{{kind: call, id: 1, name: "run", body: []byte("body")}, {kind: answer}, {kind: cancel, id: 3, body: []byte("why")}, {kind: note, body: []byte("text")}} {
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
		got.files = make([]*os.File, files)
		again, err := got.encode()
		if err != nil || !bytes.HasPrefix(raw, again) {
			t.Errorf("%x was read as %v, which is written as %x, %v", raw, got, again, err)
		}
		// No body brings down who reads it.
		for _, value := range []any{new(outcome), new(greeting), new(at[runArgs]), new(MountSpec), new(string)} {
			_ = unpack(got.body, value)
		}
	})
}

// linked is a wire with both ends in this process.
func linked(t *testing.T) (a, b *link) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends []*link
	for _, fd := range fds {
		file := os.NewFile(uintptr(fd), "end")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		file.Close()
		ends = append(ends, &link{conn: conn.(*net.UnixConn)})
	}
	return ends[0], ends[1]
}

// TestFilesComeWithTheirFrame sends frames that lie close together, some longer
// than what the kernel takes at once.
func TestFilesComeWithTheirFrame(t *testing.T) {
	a, b := linked(t)
	const frames = 60
	go func() {
		for i := range frames {
			f := frame{kind: call, id: uint64(i), body: make([]byte, i*i*i*4)}
			for n := range i % (mostFiles + 1) {
				r, w, err := os.Pipe()
				if err != nil {
					t.Error(err)
					return
				}
				fmt.Fprintf(w, "%d of %d", n, i)
				w.Close()
				f.files = append(f.files, r)
			}
			if err := a.send(f); err != nil {
				t.Error(err)
			}
			closeAll(f.files)
		}
		a.conn.Close()
	}()
	for i := range frames {
		f, err := b.receive()
		if err != nil || f.id != uint64(i) || len(f.body) != i*i*i*4 || len(f.files) != i%(mostFiles+1) {
			t.Fatalf("frame %d came as %d with %d bytes and %d files, %v", i, f.id, len(f.body), len(f.files), err)
		}
		for n, file := range f.files {
			if got, err := io.ReadAll(file); string(got) != fmt.Sprintf("%d of %d", n, i) {
				t.Errorf("file %d of frame %d holds %q, %v", n, i, got, err)
			}
		}
		closeAll(f.files)
	}
	if _, err := b.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last: %v", err)
	}
}

func TestFailuresKeepWhatIsLookedFor(t *testing.T) {
	if err := failed(nil).err(); err != nil {
		t.Errorf("no error became %v", err)
	}
	for _, err := range []error{
		fmt.Errorf("cannot mount: %w", ErrNoFileSystem),
		&os.PathError{Op: "open", Path: "/x", Err: unix.ENOENT},
		&busyError{"/mnt", func() []string { return nil }},
		fmt.Errorf("ended: %w", context.Canceled),
		errors.New("plain"),
	} {
		body, packErr := pack(outcome{Failure: failed(err)})
		if packErr != nil {
			t.Fatal(packErr)
		}
		var o outcome
		if err := unpack(body, &o); err != nil {
			t.Fatal(err)
		}
		got := o.Failure.err()
		if got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
		for _, known := range append([]error{unix.ENOENT, unix.ENOSPC}, knownErrors...) {
			if errors.Is(got, known) != errors.Is(err, known) {
				t.Errorf("%v: errors.Is(%v) is %v", err, known, errors.Is(got, known))
			}
		}
	}
}

func TestOverlay(t *testing.T) {
	got := overlay([]string{"A=plugin", "B=plugin", "PATH=/bin"}, []string{"A=wrapper", "PATH=/usr/sbin", "SUDO_UID=7", "C=x=y"})
	want := []string{"B=plugin", "A=wrapper", "PATH=/usr/sbin", "C=x=y"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the environment is %q, want %q", got, want)
	}
}

// TestStrangersAreSentAway: whoever does not know the word is not greeted.
func TestStrangersAreSentAway(t *testing.T) {
	inv := invitation{"/tmp", 0, "the word"}
	for word, welcome := range map[string]bool{"the word": true, "another word": false, "": false} {
		here, there := linked(t)
		if err := there.send(frame{kind: call, body: []byte(word)}); err != nil {
			t.Fatal(err)
		}
		s, err := launcher{}.greet(here.conn, inv)
		switch {
		case os.Geteuid() != 0: // only root is a keeper, whatever it knows
			if err == nil {
				t.Errorf("%q made a keeper without root", word)
			}
		case welcome && (err != nil || s.pid != os.Getpid()):
			t.Errorf("the keeper is sent away: %v", err)
		case !welcome && !errors.Is(err, errStranger):
			t.Errorf("%q was answered by %v", word, err)
		}
	}
}
