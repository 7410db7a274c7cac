//go:build linux

package loopcloud

import (
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// skew is the deviation of a clock. The zero value is none.
type skew struct{ d atomic.Int64 }

func (s *skew) get() time.Duration  { return time.Duration(s.d.Load()) }
func (s *skew) set(d time.Duration) { s.d.Store(int64(d)) }

// clock returns a function that returns the time of a clock, by default the machine's, plus the
// time that it was advanced by.
func (s *Server) clock(by func() time.Time) func() time.Time {
	if by == nil {
		by = time.Now
	}
	return func() time.Time { return by().Add(s.advanced.get()) }
}

// timed is a cloud with its own time for verifying signatures.
type timed struct {
	*state.Cloud
	*faults
}

// WireTime implements sigv4.Clock.
func (t timed) WireTime() time.Time { return t.wireTime() }

// clocks holds both clocks in the control API.
type clocks struct {
	// Now is the time of resources: when they are created, ready and deprecated.
	Now time.Time `json:"now"`
	// Wire is the time of the Date header and of signatures.
	Wire time.Time `json:"wire"`
	// Advanced and Skew are the differences from the machine's clock.
	Advanced string `json:"advanced"`
	Skew     string `json:"skew"`
}

func (s *Server) clocks() clocks {
	return clocks{
		Now: s.cloud.Now(), Wire: s.wireTime(),
		Advanced: s.advanced.get().String(), Skew: s.skew.get().String(),
	}
}

// setClock advances the time of resources (advance) and sets the deviation of the time on the
// wire (skew). Both may be negative.
func (s *Server) setClock(w http.ResponseWriter, r *http.Request) {
	advance, skew, err := clockChange(r.URL.Query(), s.skew.get())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.advanced.d.Add(int64(advance))
	s.skew.set(skew)
	writeJSON(w, s.clocks())
}

// clockChange parses the changes of the clocks. The default of skew is its current value.
func clockChange(q url.Values, was time.Duration) (advance, skew time.Duration, err error) {
	skew = was
	if len(q) == 0 {
		return 0, 0, fmt.Errorf("no change of the clocks is given; use advance or skew")
	}
	for name, values := range q {
		d, err := time.ParseDuration(values[len(values)-1])
		if err != nil {
			return 0, 0, fmt.Errorf("%s is a duration such as 10m or -1h: %w", name, err)
		}
		switch name {
		case "advance":
			advance = d
		case "skew":
			skew = d
		default:
			return 0, 0, fmt.Errorf("there is no parameter %s; use advance or skew", name)
		}
	}
	return advance, skew, nil
}
