// Package wiretest contains parts of handlers that check the calls of a test: a request body that
// can be read again, and a copy of the response.
package wiretest

import (
	"bytes"
	"io"
	"net/http"
)

// Body returns the body of a request and lets it be read again. If the client disconnects while
// it sends the body, as a killed client does, Body panics with http.ErrAbortHandler, which ends
// the handler.
func Body(r *http.Request) []byte {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// Recorder passes a response on and keeps a copy.
type Recorder struct {
	http.ResponseWriter
	// Status is the status of the response; 200 if the handler sets none.
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
