package lazydisk

import (
	"bytes"
	"log"
	"sync"
)

// tail logs the output of a block server and keeps the end of it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

// tailSize is enough for the message that a process ends with.
const tailSize = 2 << 10

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	log.Printf("%s", bytes.TrimSpace(p))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	t.last = t.last[max(0, len(t.last)-tailSize):]
	return len(p), nil
}

// String returns the end of the output.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.last))
}
