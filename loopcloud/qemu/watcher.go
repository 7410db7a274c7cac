//go:build linux

package qemu

import (
	"bytes"
	"io"
	"strings"
)

// watcher passes on what a console says and looks for a text in it.
type watcher struct {
	out   io.Writer
	until []byte
	// last is the end of what was said.
	last []byte
	// said is true when the text has been said, and found is called then.
	said  bool
	found func()
}

const (
	// keptBytes and keptLines are how much of a console is told in an error.
	keptBytes = 16 << 10
	keptLines = 20
)

// Write implements io.Writer. A reader of the console that is gone does not end the
// watching.
func (w *watcher) Write(p []byte) (int, error) {
	if w.out != nil {
		_, _ = w.out.Write(p)
	}
	w.last = append(w.last, p...)
	if !w.said && bytes.Contains(w.last, w.until) {
		w.said = true
		w.found()
	}
	kept := max(keptBytes, len(w.until))
	w.last = w.last[max(0, len(w.last)-kept):]
	return len(p), nil
}

// lastLines are the last lines that are not empty.
func (w *watcher) lastLines() string {
	var lines []string
	for line := range strings.Lines(string(w.last)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-keptLines):], "\n")
}
