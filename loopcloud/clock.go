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

// skew is by how much a clock is off. The zero value is not.
type skew struct{ d atomic.Int64 }

func (s *skew) get() time.Duration  { return time.Duration(s.d.Load()) }
func (s *skew) set(d time.Duration) { s.d.Store(int64(d)) }

// clock is the time by a clock, or else the machine's, with what it was advanced by.
func (s *Server) clock(by func() time.Time) func() time.Time {
	if by == nil {
		by = time.Now
	}
	return func() time.Time { return by().Add(s.advanced.get()) }
}

// timed is a cloud whose signatures are judged by a time that may be off.
type timed struct {
	*state.Cloud
	*faults
}

// WireTime makes it a sigv4.Clock.
func (t timed) WireTime() time.Time { return t.wireTime() }

// clocks is what the control tells of the two clocks.
type clocks struct {
	// Now is the time of the cloud's things: when they are ready, created, deprecated.
	Now time.Time `json:"now"`
	// Wire is the time that answers are dated with and signatures are judged by.
	Wire time.Time `json:"wire"`
	// Advanced and Skew are how far the two are from the machine's clock.
	Advanced string `json:"advanced"`
	Skew     string `json:"skew"`
}

func (s *Server) clocks() clocks {
	return clocks{
		Now: s.cloud.Now(), Wire: s.wireTime(),
		Advanced: s.advanced.get().String(), Skew: s.skew.get().String(),
	}
}

// setClock adds to the time of things (advance) and sets how far the time on the wire
// is off (skew). Either may be negative.
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

// clockChange reads what is to be done to the clocks; a skew that is not given is as
// it was.
func clockChange(q url.Values, was time.Duration) (advance, skew time.Duration, err error) {
	skew = was
	if len(q) == 0 {
		return 0, 0, fmt.Errorf("nothing is to be done to the clocks: there are advance and skew")
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
			return 0, 0, fmt.Errorf("the clocks have no %s: there are advance and skew", name)
		}
	}
	return advance, skew, nil
}
