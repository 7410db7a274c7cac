//go:build linux

package qemu

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestWatcher finds a text in any partition into writes.
func TestWatcher(t *testing.T) {
	const text = "\x1b[0mDebian GNU/Linux 12 host ttyS0\r\n\r\nhost login: "
	for size := 1; size <= len(text); size++ {
		found := 0
		var out bytes.Buffer
		w := &watcher{out: &out, until: []byte("login:"), found: func() { found++ }}
		for rest := []byte(text); len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if n, err := w.Write(rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
				t.Fatal(n, err)
			}
		}
		if found != 1 || !w.said || out.String() != text {
			t.Errorf("in pieces of %d: found %d times, passed on %q", size, found, out.String())
		}
	}
}

// TestWatcherKeepsTheEnd checks that endless output is kept in bounded memory.
func TestWatcherKeepsTheEnd(t *testing.T) {
	w := &watcher{out: broken{}, until: []byte("never"), found: func() { t.Error("found") }}
	for range 10_000 {
		if _, err := w.Write([]byte("one line\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = w.Write([]byte("the last line"))
	got := strings.Split(w.lastLines(), "\n")
	if len(got) != keptLines || got[0] != "one line" || got[keptLines-1] != "the last line" || len(w.last) > keptBytes {
		t.Errorf("%d lines, of %d bytes: %q", len(got), len(w.last), got)
	}
}

// broken is a console that cannot be written to.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("gone") }
