package cloudtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestWire(t *testing.T) {
	tests := []struct {
		name, method string
		fault        Fault
		reached      int    // number of requests to the cloud
		answer       string // empty: none came
		broken       int
	}{
		{"no fault", http.MethodPost, "", 1, "done", 0},
		{"throttled", http.MethodPost, Throttled, 0, "slow down", 1},
		{"lost", http.MethodPost, Lost, 1, "", 1},
		{"the metadata pass", http.MethodGet, Lost, 1, "done", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var reached atomic.Int32
			wire := &Wire{
				Next: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					reached.Add(1)
					fmt.Fprint(w, "done")
				}),
				Refuse: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "slow down") },
			}
			server := httptest.NewServer(wire)
			defer server.Close()
			wire.Fail(tt.fault)
			if got := ask(t, tt.method, server.URL); got != tt.answer {
				t.Errorf("answer %q, want %q", got, tt.answer)
			}
			if n := int(reached.Load()); n != tt.reached || wire.Broken() != tt.broken {
				t.Errorf("the cloud was asked %d times and %d requests were broken, want %d and %d", n, wire.Broken(), tt.reached, tt.broken)
			}
			if got := ask(t, http.MethodPost, server.URL); tt.method == http.MethodPost && got != "done" {
				t.Errorf("the request after it was answered %q", got)
			}
		})
	}
}

// ask returns the body of a response, empty if there is none.
func ask(t *testing.T, method, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
