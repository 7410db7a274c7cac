package osc

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
)

// fake is an API that returns the given responses, call by call. The last response to a call
// is repeated.
type fake struct {
	t      *testing.T
	server *httptest.Server

	mu      sync.Mutex
	answers map[string][]reply
	seen    map[string][]*http.Request
}

// reply is one response: a status, and the JSON of its body.
type reply struct {
	status int
	body   string
}

// account is the response that every client needs first.
var account = reply{200, `{"Accounts":[{"AccountId":"` + me + `"}]}`}

// refused is an error as the API writes it.
func refused(status int, kind, code, details string) reply {
	return reply{status, fmt.Sprintf(`{"Errors":[{"Code":%q,"Type":%q,"Details":%q}],"ResponseContext":{"RequestId":"0475ca1e"}}`, code, kind, details)}
}

// described is a server that checks requests against Outscale's description of its API.
func described(t *testing.T, next http.Handler) http.Handler {
	t.Helper()
	description, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	return description.Requests(t, next)
}

func newFake(t *testing.T, answers map[string][]reply) *fake {
	t.Helper()
	s := &fake{t: t, answers: answers, seen: map[string][]*http.Request{}}
	if s.answers["ReadAccounts"] == nil {
		s.answers["ReadAccounts"] = []reply{account}
	}
	s.server = httptest.NewServer(described(t, s))
	t.Cleanup(s.server.Close)
	return s
}

func (s *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := path.Base(r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body)) // for the test to read
	s.mu.Lock()
	s.seen[call] = append(s.seen[call], r)
	left := s.answers[call]
	if len(left) > 1 {
		s.answers[call] = left[1:]
	}
	s.mu.Unlock()
	switch {
	case len(left) == 0:
		s.t.Errorf("unexpected call %s", call)
		w.WriteHeader(http.StatusTeapot)
	case left[0].status == 0:
		panic(http.ErrAbortHandler) // closes the connection
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(left[0].status)
		_, _ = w.Write([]byte(left[0].body))
	}
}

// asked is the body of the nth call, from 0.
func (s *fake) asked(call string, nth int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, err := io.ReadAll(s.seen[call][nth].Body)
	if err != nil {
		s.t.Error(err)
	}
	return string(body)
}

// count returns the number of requests for a call.
func (s *fake) count(call string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen[call])
}

func (s *fake) access() Access {
	return Access{AccessKey: myKey, SecretKey: secret, Region: home, Endpoint: s.server.URL, MetadataEndpoint: s.server.URL}
}

// cloud is a Cloud that calls the fake, and does not wait.
func (s *fake) cloud(o Config) *Cloud {
	s.t.Helper()
	client, err := Dial(s.t.Context(), s.access())
	if err != nil {
		s.t.Fatal(err)
	}
	client.retry.Clock = new(cloudtest.Clock)
	return NewCloud(client, &o, nil)
}
