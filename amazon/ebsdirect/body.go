package ebsdirect

import (
	"bytes"
	"errors"
	"sync"
)

// body is the body of a request. The transport may read a body after the request has ended, and
// the data belongs to somebody else then: a retired body gives out no more data.
type body struct {
	mu   sync.Mutex
	data *bytes.Reader
}

func newBody(data []byte) *body { return &body{data: bytes.NewReader(data)} }

var errRetired = errors.New("the request has ended")

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.data == nil {
		return 0, errRetired
	}
	return b.data.Read(p)
}

// Seek implements io.Seeker.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.data == nil {
		return 0, errRetired
	}
	return b.data.Seek(offset, whence)
}

// retire releases the data.
func (b *body) retire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = nil
}
