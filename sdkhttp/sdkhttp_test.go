package sdkhttp_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// closed is the body of a request that the SDK has closed after its content was sent.
type closed struct{ io.ReadCloser }

func (closed) WriteTo(io.Writer) (int64, error) { return 0, io.EOF }

// TestSafe sends a body that is closed before net/http has finished with it. The server sends the
// head of the response at once and the rest when the client has the head.
func TestSafe(t *testing.T) {
	const sent, received = "Action=DescribeImages", "images"
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); string(body) != sent || err != nil {
			t.Errorf("the server got %q, %v", body, err)
		}
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-over
		_, _ = io.WriteString(w, received)
	}))
	defer server.Close()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, server.URL, closed{io.NopCloser(strings.NewReader(sent))})
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(sent))
	resp, err := sdkhttp.Safe(server.Client()).Do(r)
	close(over)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != received || err != nil {
		t.Errorf("the response is %q, %v", body, err)
	}
}
