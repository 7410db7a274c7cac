package osc

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestInstanceID(t *testing.T) {
	serve := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/latest/meta-data/instance-id" || r.Method != http.MethodGet {
				t.Errorf("%s %s", r.Method, r.URL)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	tests := map[string]struct{ endpoint, want, err string }{
		"id":             {serve(200, "i-12345678\n"), "i-12345678", ""},
		"long id":        {serve(200, "i-0123456789abcdef0"), "i-0123456789abcdef0", ""},
		"nobody there":   {"http://" + closedPort(t), "", "OSC_METADATA_ENDPOINT"},
		"something else": {serve(200, "<html>"), "", `"<html>", which is no VM's id`},
		"much":           {serve(200, strings.Repeat("i-", 10000)), "", "no VM's id"},
		"none":           {serve(404, ""), "", "refuses the question, or does not know it"},
		"overloaded":     {serve(503, ""), "", "overloaded (HTTP status 503): try again"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := newMetadata(Access{MetadataEndpoint: test.endpoint}).instanceID(t.Context())
			if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestMetadataTakenUpAgain checks that a reachable metadata service is asked a second time
// after a failure, and that a negative response is final.
func TestMetadataTakenUpAgain(t *testing.T) {
	for name, test := range map[string]struct {
		fails func(http.ResponseWriter)
		asked int
		works bool
	}{
		"overloaded once": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }, 2, true},
		"throttled once":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusTooManyRequests) }, 2, true},
		"broken off once": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 2, true},
		"denied":          {func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if asked++; asked == 1 {
					test.fails(w)
					return
				}
				_, _ = w.Write([]byte("i-12345678"))
			}))
			t.Cleanup(s.Close)
			_, err := newMetadata(Access{MetadataEndpoint: s.URL}).instanceID(t.Context())
			if (err == nil) != test.works || asked != test.asked {
				t.Errorf("asked %d times, %v", asked, err)
			}
		})
	}
}

// TestMetadataThatHang checks that a service that accepts the request and never responds is
// asked once, and given up within five seconds.
func TestMetadataThatHang(t *testing.T) {
	if metadataLimit >= 5*time.Second || metadataDial > metadataLimit {
		t.Errorf("it is given up after %v", metadataLimit)
	}
	release := make(chan struct{})
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked.Add(1)
		<-release
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	m := newMetadata(Access{MetadataEndpoint: s.URL})
	if m.http.Timeout != metadataLimit {
		t.Errorf("the time-out is %v", m.http.Timeout)
	}
	m.http.Timeout = 10 * time.Millisecond
	var late net.Error
	if _, err := m.instanceID(t.Context()); !errors.As(err, &late) || !late.Timeout() ||
		!strings.Contains(err.Error(), "vm_id") || !strings.Contains(err.Error(), "did not answer within 10ms") {
		t.Errorf("the error is %v", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// TestMetadataDefault checks that the default endpoint is the link-local one, without a proxy.
func TestMetadataDefault(t *testing.T) {
	m := newMetadata(Access{})
	if m.endpoint != "http://169.254.169.254" || m.http.Timeout == 0 || m.http.Transport.(*http.Transport).Proxy != nil {
		t.Errorf("%+v", m)
	}
}
