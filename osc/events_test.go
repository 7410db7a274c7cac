package osc

import (
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// ear is a listener that records events.
type ear []event.Call

func (e *ear) Hear(heard event.Event) {
	if call, ok := heard.(event.Call); ok {
		*e = append(*e, call)
	}
}

// TestEveryAttemptEmitsEvent checks that each attempt of a call has an event with the request
// ID and without secrets.
func TestEveryAttemptEmitsEvent(t *testing.T) {
	environment(t, nil)
	answered := reply{200, `{"Volumes":[{"VolumeId":"vol-12345678","State":"available"}],"ResponseContext":{"RequestId":"r-3"}}`}
	c := newFake(t, map[string][]reply{"ReadVolumes": {busy, lost, answered}}).cloud(Config{})
	var heard ear
	if _, err := c.Volume(event.Listen(t.Context(), &heard), "vol-12345678"); err != nil {
		t.Fatal(err)
	}
	if len(heard) != 3 {
		t.Fatalf("heard %v", heard)
	}
	for i, call := range heard {
		if call.Service != "OAPI" || call.Action != "ReadVolumes" || call.Attempt != i+1 || (call.Err == nil) != (i == 2) || call.RequestID != []string{"0475ca1e", "", "r-3"}[i] {
			t.Errorf("attempt %d: %v", i+1, call)
		}
		if strings.Contains(call.String(), secret) {
			t.Errorf("a secret is told: %s", call)
		}
	}
}
