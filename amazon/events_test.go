package amazon

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// ear is a listener that records events.
type ear struct {
	mu    sync.Mutex
	calls []event.Call
}

func (e *ear) Hear(heard event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if call, ok := heard.(event.Call); ok {
		e.calls = append(e.calls, call)
	}
}

// TestEveryAttemptEmitsEvent checks that each attempt of a call has an event with the request
// ID and without secrets.
func TestEveryAttemptEmitsEvent(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": inTurn(
		refuseWith(http.StatusServiceUnavailable, "RequestLimitExceeded"), breakOff, answer("DescribeImages", "<requestId>r-2</requestId><imagesSet/>"))}}
	cloud, heard := faked(t, s, Config{}), &ear{}
	if err := look(event.Listen(t.Context(), heard), cloud); err != nil {
		t.Fatal(err)
	}
	if len(heard.calls) != 3 {
		t.Fatalf("heard %v", heard.calls)
	}
	for i, call := range heard.calls {
		if call.Service != "EC2" || call.Action != "DescribeImages" || call.Attempt != i+1 || (call.Err == nil) != (i == 2) || (call.Pause > 0) != (i > 0) {
			t.Errorf("attempt %d: %v", i+1, call)
		}
		if strings.Contains(call.String(), "not-to-be-printed") {
			t.Errorf("a secret is told: %s", call)
		}
	}
	if heard.calls[0].RequestID != "r-1" || heard.calls[1].RequestID != "" {
		t.Errorf("request ids: %v", heard.calls)
	}
}
