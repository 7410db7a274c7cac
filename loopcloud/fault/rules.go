package fault

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Rules holds the rules in force. The zero value has none. Its methods may be called
// concurrently.
type Rules struct {
	mu   sync.Mutex
	list []counted
	seed uint64
	dice *rand.Rand
}

// counted is a rule with the number of calls that it skipped and applied to, and the time of the
// first call that it applied to.
type counted struct {
	Rule
	passed, hit Count
	first       time.Time
}

// Seed makes probabilities reproducible: the same calls in the same order get the same faults.
// The default seed is 0.
func (s *Rules) Seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed, s.dice = seed, nil
}

// Add adds rules after the existing ones.
func (s *Rules) Add(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rules {
		s.list = append(s.list, counted{Rule: r})
	}
}

// Clear removes all rules.
func (s *Rules) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// List returns the rules that may still apply. Skip, Times and Lasts are the remaining values.
func (s *Rules) List() []Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Rule{}
	for _, c := range s.list {
		if !c.spent() {
			out = append(out, c.rest())
		}
	}
	return out
}

func (c counted) spent() bool {
	return c.Times > 0 && c.hit >= c.Times || c.Lasts > 0 && c.hit > 0 && time.Since(c.first) >= time.Duration(c.Lasts)
}

func (c counted) rest() Rule {
	r := c.Rule
	if r.Times > 0 {
		r.Times -= c.hit
	}
	if r.Lasts > 0 && c.hit > 0 {
		r.Lasts -= Duration(time.Since(c.first))
	}
	r.Skip -= c.passed
	return r
}

// MatchCall counts a call, and returns the first rule that applies to it, the zero Rule if none
// does. The rules after that one do not count the call.
func (s *Rules) MatchCall(dialect, action string) Rule {
	return s.first(func(r Rule) bool {
		return !r.ofState() && (r.Action == "" || r.Action == action) && (r.Dialect == "" || r.Dialect == dialect)
	})
}

// MatchAct counts an act, such as CreateVolume, and returns the first rule with an Outcome or a
// Stale that applies to it. A rule without an action applies to all acts that can have its
// outcome.
func (s *Rules) MatchAct(act string) Rule {
	return s.first(func(r Rule) bool {
		can := r.Outcome == "" || slices.Contains(endings[r.Outcome], act)
		return r.ofState() && can && (r.Action == "" || r.act() == act)
	})
}

func (s *Rules) first(applies func(Rule) bool) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		c := &s.list[i]
		switch {
		case c.spent() || !applies(c.Rule):
		case c.passed < c.Skip:
			c.passed++
		case c.Probability == 0 || s.chance() < c.Probability:
			if c.hit++; c.hit == 1 {
				c.first = time.Now()
			}
			return c.Rule
		}
	}
	return Rule{}
}

// chance returns the next random number from 0 to 1.
func (s *Rules) chance() float64 {
	if s.dice == nil {
		s.dice = rand.New(rand.NewPCG(s.seed, 0))
	}
	return s.dice.Float64()
}
