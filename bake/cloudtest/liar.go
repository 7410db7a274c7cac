package cloudtest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Liar wraps the HTTP handler of a cloud, and changes its responses.
type Liar struct {
	// Next is the cloud.
	Next http.Handler
	// Lie changes the answer to a request, of which the body is given too.
	Lie func(r *http.Request, request, answer []byte) []byte

	mu       sync.Mutex
	requests []string
}

// ServeHTTP implements http.Handler.
func (l *Liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(request))
	l.mu.Lock()
	l.requests = append(l.requests, r.URL.Path+" "+string(request))
	l.mu.Unlock()
	truth := httptest.NewRecorder()
	l.Next.ServeHTTP(truth, r)
	lie := l.Lie(r, request, truth.Body.Bytes())
	maps.Copy(w.Header(), truth.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(lie)))
	w.WriteHeader(truth.Code)
	_, _ = w.Write(lie)
}

// Requests are the paths and bodies of all requests, in their order.
func (l *Liar) Requests() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.requests...)
}

// ShortWaits returns short waits for a cloud whose responses are wrong.
func ShortWaits() bake.Waits {
	pace := bake.Pace{First: time.Millisecond, Longest: 10 * time.Millisecond, Limit: 300 * time.Millisecond}
	return bake.Waits{
		Volume: pace, Attachment: pace, Snapshot: pace, Image: pace, Copy: pace,
		Unseen: 100 * time.Millisecond, Lost: 50 * time.Millisecond, Release: 10 * time.Second,
	}
}
