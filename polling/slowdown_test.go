package polling

import (
	"testing"
	"time"
)

// TestSlowdown checks that a slowdown grows with throttled looks, has a limit, and ends by itself.
func TestSlowdown(t *testing.T) {
	now := time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC)
	var s slowdown
	if f := s.factor(now); f != 1 {
		t.Errorf("without throttling, the factor is %v", f)
	}
	for _, want := range []float64{2, 4, 8} {
		for range 16 { // the looks of sixteen builds that are throttled together
			s = s.raised(now)
		}
		if f := s.factor(now); f < want*0.9 || f > want {
			t.Errorf("the factor is %v, not about %v", f, want)
		}
		now = now.Add(together)
	}
	for range 100 {
		s, now = s.raised(now), now.Add(2*together)
	}
	if f := s.factor(s.At); f > slowest || f < slowest/2 {
		t.Errorf("after a long throttling, the factor is %v", f)
	}
	if half := s.factor(s.At.Add(halving)) / s.factor(s.At); half < 0.49 || half > 0.51 {
		t.Errorf("after %v, the factor is %v of itself", halving, half)
	}
	if f := s.factor(s.At.Add(6 * halving)); f != 1 {
		t.Errorf("after %v, the factor is %v", 6*halving, f)
	}
	if f := s.factor(s.At.Add(-time.Hour)); f != 1 {
		t.Errorf("after the clock was set back, the factor is %v", f)
	}
	if again := s.raised(s.At.Add(-time.Hour)); again.Factor != 2 {
		t.Errorf("after the clock was set back, throttling leads to %+v", again)
	}
}
