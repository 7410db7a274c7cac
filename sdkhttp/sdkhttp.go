// Package sdkhttp works around a fault of the AWS SDK that loses responses. Wrap the HTTP
// client of the SDK in Safe.
//
// The SDK (smithy-go v1.28.8) closes the body of a request as soon as the response begins. The
// WriteTo of a closed body returns io.EOF. If net/http calls it after that, it treats the
// request as failed and closes the connection. Reading the rest of the response then fails with
// "use of closed network connection". On a busy machine this happened once in several thousand
// calls.
package sdkhttp

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Safe returns a client that sends requests through next and hides the WriteTo of their bodies.
func Safe(next aws.HTTPClient) aws.HTTPClient { return safe{next} }

type safe struct{ next aws.HTTPClient }

// Do implements aws.HTTPClient.
func (s safe) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return s.next.Do(r)
}
