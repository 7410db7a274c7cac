// Package sdkhttp sends the requests of the AWS SDK in a way that does not lose responses.
//
// The SDK (smithy-go v1.28.8) closes the body of a request as soon as the response begins, and
// the WriteTo of a closed body returns io.EOF. If net/http has not finished with the body by
// then, it takes that for a failed request and closes the connection: reading the response
// fails with "use of closed network connection". A busy machine had it once in some thousand
// calls.
package sdkhttp

import (
	"io"
	"net/http"
)

// A Client sends requests. It is aws.HTTPClient.
type Client interface {
	Do(*http.Request) (*http.Response, error)
}

// Safe returns a client that sends the bodies of requests without their WriteTo.
func Safe(next Client) Client { return safe{next} }

type safe struct{ next Client }

// Do implements Client.
func (s safe) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return s.next.Do(r)
}
