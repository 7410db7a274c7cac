package cloudtest

import (
	"net/http"
	"net/http/httptest"
	"sync"
)

// Wire wraps the HTTP handler of a cloud whose requests are all POST, and breaks the next
// one on demand, as Env.Fail does. Requests of other methods, such as the metadata
// service's, pass.
type Wire struct {
	// Next is the cloud.
	Next http.Handler
	// Refuse writes the cloud's response to a throttled request.
	Refuse http.HandlerFunc

	mu     sync.Mutex
	fault  Fault
	broken int
}

// Fail makes the next request fail.
func (w *Wire) Fail(fault Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// Broken returns the number of failed requests.
func (w *Wire) Broken() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

// ServeHTTP implements http.Handler.
func (w *Wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch w.take(r) {
	case Throttled:
		w.Refuse(rw, r)
	case Lost:
		w.Next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler) // closes the connection
	default:
		w.Next.ServeHTTP(rw, r)
	}
}

// take returns the fault that is due, once.
func (w *Wire) take(r *http.Request) Fault {
	if r.Method != http.MethodPost {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	due := w.fault
	w.fault = ""
	if due != "" {
		w.broken++
	}
	return due
}
