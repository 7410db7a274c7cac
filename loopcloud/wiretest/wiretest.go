// Package wiretest has what handlers share that check the calls of a test: a request's body
// that can be read again, and a copy of the response.
package wiretest

import (
	"bytes"
	"io"
	"net/http"
)

// Body returns the body of a request, which can be read again. If the client goes away in the
// middle of it, as one that is killed does, Body panics with http.ErrAbortHandler, which ends
// the handler.
func Body(r *http.Request) []byte {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// Recorder passes a response on and keeps a copy of it.
type Recorder struct {
	http.ResponseWriter
	// Status is that of the response; 200 if the handler sets none.
	Status int
	Body   bytes.Buffer
}

// Record returns a Recorder of a response.
func Record(w http.ResponseWriter) *Recorder {
	return &Recorder{ResponseWriter: w, Status: http.StatusOK}
}

// WriteHeader implements http.ResponseWriter.
func (r *Recorder) WriteHeader(status int) {
	r.Status = status
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *Recorder) Write(p []byte) (int, error) {
	r.Body.Write(p)
	return r.ResponseWriter.Write(p)
}
