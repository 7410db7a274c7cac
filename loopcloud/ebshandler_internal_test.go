//go:build linux

package loopcloud

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestSlowBody: a body that does not arrive in time is refused with an error of the API.
func TestSlowBody(t *testing.T) {
	f, e, _ := serveEcho(t)
	server := httptest.NewServer(ebsHandler{f, 20 * time.Millisecond})
	t.Cleanup(server.Close)
	body, end := io.Pipe()
	defer end.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if want := "ValidationException/WRITE_REQUEST_TIMEOUT: The body was not received in time"; resp.StatusCode != http.StatusBadRequest || string(text) != want {
		t.Errorf("the response is %d %s", resp.StatusCode, text)
	}
	if e.did.Load() != 0 {
		t.Error("the call took effect")
	}
}
