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

// Falsifier wraps the HTTP handler of a cloud, and changes its responses.
type Falsifier struct {
	// Next is the cloud.
	Next http.Handler
	// Change returns the changed response to a request.
	Change func(r *http.Request, request, answer []byte) []byte

	mu       sync.Mutex
	requests []string
}

// ServeHTTP implements http.Handler.
func (f *Falsifier) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	request, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(request))
	f.mu.Lock()
	f.requests = append(f.requests, r.URL.Path+" "+string(request))
	f.mu.Unlock()
	actual := httptest.NewRecorder()
	f.Next.ServeHTTP(actual, r)
	falsified := f.Change(r, request, actual.Body.Bytes())
	maps.Copy(w.Header(), actual.Header())
	w.Header().Set("Content-Length", strconv.Itoa(len(falsified)))
	w.WriteHeader(actual.Code)
	_, _ = w.Write(falsified)
}

// Requests returns the paths and bodies of all requests, in their order.
func (f *Falsifier) Requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.requests...)
}

// ShortWaits returns short waits for a cloud whose responses are wrong.
func ShortWaits() bake.Waits {
	pace := bake.Pace{First: time.Millisecond, Longest: 10 * time.Millisecond, Limit: 300 * time.Millisecond}
	return bake.Waits{
		Volume: pace, Attachment: pace, Snapshot: pace, Image: pace, Copy: pace,
		Unseen: 100 * time.Millisecond, Lost: 50 * time.Millisecond, Release: 10 * time.Second,
	}
}
