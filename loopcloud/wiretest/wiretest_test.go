package wiretest_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wiretest"
)

// TestBody reads a body three times.
func TestBody(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("Action=A"))
	for range 2 {
		if got := wiretest.Body(r); string(got) != "Action=A" {
			t.Errorf("the body is %q", got)
		}
	}
	if got, err := io.ReadAll(r.Body); string(got) != "Action=A" || err != nil {
		t.Errorf("the next handler reads %q, %v", got, err)
	}
}

// TestBodyOfAKilledClient checks that the handler ends if the body does.
func TestBodyOfAKilledClient(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", iotest.ErrReader(io.ErrUnexpectedEOF))
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("the handler ends with %v", err)
		}
	}()
	wiretest.Body(r)
}

// TestRecorder checks that the client and the recorder receive the same response.
func TestRecorder(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(w http.ResponseWriter)
		status int
		body   string
	}{
		"no status": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "a"); _, _ = io.WriteString(w, "b") }, http.StatusOK, "ab"},
		"a status":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusConflict); _, _ = io.WriteString(w, "no") }, http.StatusConflict, "no"},
		"no body":   {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }, http.StatusNoContent, ""},
	} {
		client := httptest.NewRecorder()
		seen := wiretest.Record(client)
		test.handle(seen)
		if seen.Status != test.status || seen.Body.String() != test.body {
			t.Errorf("%s: recorded %d %q", name, seen.Status, &seen.Body)
		}
		if client.Code != test.status || client.Body.String() != test.body {
			t.Errorf("%s: received %d %q", name, client.Code, client.Body)
		}
	}
}
