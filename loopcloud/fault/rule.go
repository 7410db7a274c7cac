package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Drop says when a connection is reset instead of a call being answered.
type Drop string

// The times at which a connection may be reset.
const (
	DropNever  Drop = ""
	DropBefore Drop = "before" // nothing was done
	DropAfter  Drop = "after"  // what was asked for is done
)

// Rule is what is to happen to some calls. Without a status and a drop, they are
// only delayed.
type Rule struct {
	// Action is the action that the rule is for, as the dialect names it: any if
	// empty.
	Action string `json:"action,omitempty"`
	// Dialect is ec2, sts, imds or oapi: any if empty.
	Dialect string `json:"dialect,omitempty"`
	// Skip lets this many calls pass first.
	Skip int `json:"skip,omitempty"`
	// Times is how many calls the rule is for: all if 0.
	Times int `json:"times,omitempty"`
	// Status, from 400 to 599, refuses the call, with the dialect's form of Code
	// and Message.
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Delay comes before anything else. Its JSON is a text such as "1.5s".
	Delay Duration `json:"delay,omitzero"`
	Drop  Drop     `json:"drop,omitempty"`
}

// Duration is a time.Duration whose JSON is its text.
type Duration time.Duration

// MarshalText writes the duration as 1.5s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration does, if it is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("the delay %s is negative", v)
	}
	*d = Duration(v)
	return err
}

// Check tells what of a rule makes no sense.
func (r Rule) Check() error {
	switch {
	case r.Skip < 0 || r.Times < 0:
		return errors.New("skip and times cannot be negative")
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return fmt.Errorf("the status %d is not one of an error", r.Status)
	case !slices.Contains([]Drop{DropNever, DropBefore, DropAfter}, r.Drop):
		return fmt.Errorf("drop is %q, not before or after", r.Drop)
	case r.Status != 0 && r.Drop != DropNever:
		return errors.New("a call cannot be refused and dropped too")
	case r.Status == 0 && r.Drop == DropNever && r.Delay == 0:
		return errors.New("it has no status, no drop and no delay: nothing would happen")
	}
	return nil
}

// ParseRules reads one rule or a list of them, and refuses what it does not know.
func ParseRules(text []byte) ([]Rule, error) {
	var many []Rule
	one := make([]Rule, 1)
	if err := strictly(text, &many); err != nil {
		if oneErr := strictly(text, &one[0]); oneErr != nil {
			return nil, fmt.Errorf("not a rule: %w", oneErr)
		}
		many = one
	}
	for i, r := range many {
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return many, nil
}

// Rules are the rules in force. The zero value has none; it may be used from many
// goroutines.
type Rules struct {
	mu   sync.Mutex
	list []counted
}

// counted is a rule and how many calls it has met.
type counted struct {
	Rule
	met int
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

// List tells the rules that may still apply. Skip and Times are what is left of
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

func (c counted) spent() bool { return c.Times > 0 && c.met >= c.Skip+c.Times }

func (c counted) rest() Rule {
	r := c.Rule
	if r.Times > 0 {
		r.Times -= max(0, c.met-c.Skip)
	}
	r.Skip = max(0, r.Skip-c.met)
	return r
}

// Meet counts a call, and answers the first rule that applies to it. Rules after
// that one do not see the call; the zero Rule means that none applies.
func (s *Rules) Meet(dialect, action string) Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		c := &s.list[i]
		if c.Action != "" && c.Action != action || c.Dialect != "" && c.Dialect != dialect || c.spent() {
			continue
		}
		c.met++
		if c.met > c.Skip {
			return c.Rule
		}
	}
	return Rule{}
}

func strictly(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if dec.More() {
		return errors.New("something follows it")
	}
	return nil
}
