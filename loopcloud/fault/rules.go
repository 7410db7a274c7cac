package fault

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Rules are the rules in force. The zero value has none; it may be used from many
// goroutines.
type Rules struct {
	mu   sync.Mutex
	list []counted
	seed uint64
	dice *rand.Rand
}

// counted is a rule, how many calls it let pass at first, how many it was for, and when
// the first of these was.
type counted struct {
	Rule
	passed, hit int
	first       time.Time
}

// Seed makes what is left to probability the same again: the same calls in the same
// order meet the same rules. Without it, the seed is 0.
func (s *Rules) Seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed, s.dice = seed, nil
}

// Add puts rules in force after those that are.
func (s *Rules) Add(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rules {
		s.list = append(s.list, counted{Rule: r})
	}
}

// Clear takes all rules out of force.
func (s *Rules) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

// List tells the rules that may still apply. Skip, Times and Lasts are what is left of
// them.
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

// Meet counts a call, and answers the first rule that applies to it. Rules after
// that one do not see the call; the zero Rule means that none applies.
func (s *Rules) Meet(dialect, action string) Rule {
	return s.first(func(r Rule) bool {
		return !r.ofState() && (r.Action == "" || r.Action == action) && (r.Dialect == "" || r.Dialect == dialect)
	})
}

// Befall counts an act, such as CreateVolume, and answers the first rule with an
// Outcome or a Stale that applies to it. Without an action in the rule, it applies to
// those acts that can have its outcome.
func (s *Rules) Befall(act string) Rule {
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

// chance is the next number from 0 to 1.
func (s *Rules) chance() float64 {
	if s.dice == nil {
		s.dice = rand.New(rand.NewPCG(s.seed, 0))
	}
	return s.dice.Float64()
}
