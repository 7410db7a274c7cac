package amazon

import (
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// longestAnswer is the most that is read of an answer, in bytes, when it is
// uncompressed. A list of every public image of a region is shorter.
const longestAnswer = 128 << 20

// boundedClient is an HTTP client with a limit on the size of responses, which the SDK and this
// package keep in memory.
type boundedClient struct {
	next aws.HTTPClient
	// answered, if not nil, is called with each answer.
	answered func(*http.Response)
}

// Do implements aws.HTTPClient.
func (b boundedClient) Do(r *http.Request) (*http.Response, error) {
	resp, err := b.next.Do(r)
	if err != nil {
		return nil, err
	}
	if b.answered != nil {
		b.answered(resp)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: longestAnswer}
	return resp, nil
}

// boundedBody fails when more than left bytes are read.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("the answer is longer than %d MiB", longestAnswer>>20)
	}
	return n, err
}
