package wire

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"sync"
)

// Request is an HTTP request whose body has been read.
type Request struct {
	// HTTP is the request. Nothing is left to read in its body.
	HTTP *http.Request
	// Body is the body.
	Body []byte
	// Query holds the parameters of the URL, without those that have a syntax error.
	Query url.Values
	// QueryErr is the first syntax error in the parameters of the URL.
	QueryErr error

	bodyForm func() (url.Values, error)
}

// Read reads the body of a request. It fails if the body is longer than limit bytes or
// cannot be read; the Request that it returns then has as much of the body as was read.
func Read(w http.ResponseWriter, r *http.Request, limit int64) (*Request, error) {
	body := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), limit)+bytes.MinRead))
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit))
	return New(r, body.Bytes()), err
}

// New returns a Request with a body that has been read already.
func New(r *http.Request, body []byte) *Request {
	query, err := url.ParseQuery(r.URL.RawQuery)
	return &Request{
		HTTP: r, Body: body, Query: query, QueryErr: err,
		bodyForm: sync.OnceValues(func() (url.Values, error) { return url.ParseQuery(string(body)) }),
	}
}

// BodyForm returns the parameters of a form in the body, and the first syntax error in it.
// The body is parsed when BodyForm is called for the first time. The caller must not change
// the parameters.
func (r *Request) BodyForm() (url.Values, error) { return r.bodyForm() }

// WithContext returns a copy of the request with another context.
func (r *Request) WithContext(ctx context.Context) *Request {
	copied := *r
	copied.HTTP = r.HTTP.WithContext(ctx)
	return &copied
}

// CheckSize returns an error if the body is longer than limit bytes.
func (r *Request) CheckSize(limit int64) error {
	if int64(len(r.Body)) > limit {
		return &http.MaxBytesError{Limit: limit}
	}
	return nil
}
