package polling

import (
	"math"
	"time"
)

// The bounds of a slowdown.
const (
	// slowest is the largest factor.
	slowest = 32
	// halving is the time in which a factor is halved.
	halving = 20 * time.Second
	// together is the time within which throttled looks, of all builds, count as one.
	together = time.Second
)

// slowdown is the factor by which pauses are longer after throttled looks. It doubles with them
// and is halved with time, so it ends by itself.
type slowdown struct {
	Factor float64   `json:"factor"`
	At     time.Time `json:"at"`
}

// factor returns the factor at a time: 1 or more. A slowdown of the future, after the clock was
// set back, does not count.
func (s slowdown) factor(now time.Time) float64 {
	age := now.Sub(s.At)
	if age < -together || s.Factor <= 1 {
		return 1
	}
	return max(1, min(s.Factor, slowest)*math.Exp2(-max(0, age).Seconds()/halving.Seconds()))
}

// raised returns the slowdown after a throttled look.
func (s slowdown) raised(now time.Time) slowdown {
	if f := s.factor(now); f > 1 && now.Sub(s.At) < together {
		return s
	}
	return slowdown{Factor: min(2*s.factor(now), slowest), At: now.UTC()}
}

// valid reports whether a slowdown that was read from a file can be one.
func (s slowdown) valid() bool {
	return s.Factor >= 1 && s.Factor <= slowest
}
