//go:build linux

package qemu

import (
	"bytes"
	"io"
	"strings"
)

// watcher passes on the output of a console and searches it for a text.
type watcher struct {
	out   io.Writer
	until []byte
	// last is the end of the output.
	last []byte
	// said is true after the text has appeared; found is then called.
	said  bool
	found func()
}

const (
	// keptBytes and keptLines are the parts of the output in an error.
	keptBytes = 16 << 10
	keptLines = 20
)

// Write implements io.Writer. It continues to search after writing to the console has failed.
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

// lastLines returns the last lines that are not empty.
func (w *watcher) lastLines() string {
	var lines []string
	for line := range strings.Lines(string(w.last)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-keptLines):], "\n")
}
