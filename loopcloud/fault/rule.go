package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// When says on which side of a call's effect something happens.
type When string

// The sides.
const (
	Never  When = ""
	Before When = "before" // nothing was done
	After  When = "after"  // what was asked for is done
)

// Body says what becomes of a good answer's body.
type Body string

// The bodies.
const (
	Whole     Body = ""
	Garbage   Body = "garbage"   // bytes that are neither XML nor JSON
	Truncated Body = "truncated" // the first half, as if that were all
	Cut       Body = "cut"       // the first half, then the connection ends
	Empty     Body = "empty"
)

// The words for refusals because of too many calls: of everybody, of an account, and of an
// account for one action.
const (
	Throttled        = "throttled"
	ThrottledAccount = "throttled-account"
	ThrottledCall    = "throttled-call"
)

// Rule is what is to happen to some calls: one thing, after a delay if there is one.
type Rule struct {
	// Action is the action that the rule is for, as the dialect names it: any if
	// empty. Of Outcome and Stale it is an act's name.
	Action string `json:"action,omitempty"`
	// Dialect is ec2, imds, kms, oapi or sts: any if empty.
	Dialect string `json:"dialect,omitempty"`
	// Skip lets this many calls pass first.
	Skip int `json:"skip,omitempty"`
	// Times is how many calls the rule is for: all if 0.
	Times int `json:"times,omitempty"`
	// Lasts is how long the rule is in force, from the first call on that it is for:
	// without an end if 0.
	Lasts Duration `json:"lasts,omitzero"`
	// Probability, from 0 to 1, is the share of calls that the rule is for: all if 0.
	Probability float64 `json:"probability,omitempty"`

	// Delay comes before anything else. Its JSON is a text such as "1.5s".
	Delay Duration `json:"delay,omitzero"`

	// Error refuses the call with the dialect's own status, code and message:
	// throttled, throttled-account, throttled-call, internal, unavailable, denied. If a
	// dialect has one way to throttle only, the three are the same.
	Error string `json:"error,omitempty"`
	// Status, from 400 to 599, refuses the call, with the dialect's form of Code
	// and Message.
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Drop resets the connection instead of answering.
	Drop When `json:"drop,omitempty"`
	// Hang never answers; it ends when the client goes.
	Hang When `json:"hang,omitempty"`
	// Hold stops the call until it is released, and then lets it go on.
	Hold When `json:"hold,omitempty"`
	// Trickle is the pause before every few bytes of the answer's body.
	Trickle Duration `json:"trickle,omitzero"`
	Body    Body     `json:"body,omitempty"`
	// Rewrite changes the answer's body.
	Rewrite []Rewrite `json:"rewrite,omitempty"`
	// Outcome is how what the call begins ends: error, never, no-device, disk-full.
	Outcome string `json:"outcome,omitempty"`
	// Stale is for how long calls see a thing as it was before the act.
	Stale Stale `json:"stale,omitzero"`
}

// Rewrite replaces all that a regular expression matches. In With, $1 stands for what
// the first group has matched.
type Rewrite struct {
	Match Pattern `json:"match"`
	With  string  `json:"with"`
}

// Stale is a number of describing calls, or a time, or whichever lasts longer; and a number
// of refusals of changing calls.
type Stale struct {
	Reads   int      `json:"reads,omitempty"`
	For     Duration `json:"for,omitzero"`
	Changes int      `json:"changes,omitempty"`
}

// Pattern is a regular expression whose JSON is its text.
type Pattern struct{ *regexp.Regexp }

// MarshalText writes the expression.
func (p Pattern) MarshalText() ([]byte, error) {
	if p.Regexp == nil {
		return nil, errors.New("there is no expression")
	}
	return p.Regexp.MarshalText()
}

// UnmarshalText reads an expression of package regexp.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	p.Regexp, err = regexp.Compile(string(text))
	return err
}

// Duration is a time.Duration whose JSON is its text.
type Duration time.Duration

// MarshalText writes the duration as 1.5s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration does, if it is not negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("the duration %s is negative", v)
	}
	*d = Duration(v)
	return err
}

// The words that a rule may have.
var (
	errorWords   = []string{Throttled, ThrottledAccount, ThrottledCall, "internal", "unavailable", "denied"}
	outcomeWords = []string{"error", "never", "no-device", "disk-full"}
	// acts are what may have an outcome or go stale, by EC2's names.
	acts = []string{
		"CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume",
		"CreateSnapshot", "CopySnapshot", "DeleteSnapshot", "RegisterImage", "CopyImage", "DeregisterImage",
	}
	// endings are the acts that each outcome makes sense for.
	endings = map[string][]string{
		"error":     {"CreateVolume", "CreateSnapshot", "CopySnapshot", "RegisterImage", "CopyImage"},
		"never":     {"CreateVolume", "AttachVolume", "DetachVolume", "CreateSnapshot", "CopySnapshot", "RegisterImage", "CopyImage"},
		"no-device": {"AttachVolume"},
		"disk-full": {"CreateVolume", "AttachVolume", "CreateSnapshot", "CopySnapshot", "CopyImage"},
	}
	// actOf are Outscale's names of acts.
	actOf = map[string]string{
		"LinkVolume": "AttachVolume", "UnlinkVolume": "DetachVolume",
		"CreateImage": "RegisterImage", "DeleteImage": "DeregisterImage",
	}
)

// does names the things that a rule does, the delay left out.
func (r Rule) does() []string {
	var out []string
	for _, d := range []struct {
		is   bool
		name string
	}{
		{r.Error != "", r.Error},
		{r.Status != 0, fmt.Sprintf("status %d", r.Status)},
		{r.Drop != Never, "drop " + string(r.Drop)},
		{r.Hang != Never, "hang " + string(r.Hang)},
		{r.Hold != Never, "hold " + string(r.Hold)},
		{r.Trickle != 0, "trickle"},
		{r.Body != Whole, "body " + string(r.Body)},
		{len(r.Rewrite) > 0, "rewrite"},
		{r.Outcome != "", "outcome " + r.Outcome},
		{r.Stale != Stale{}, "stale"},
	} {
		if d.is {
			out = append(out, d.name)
		}
	}
	return out
}

// Name is what the rule does, in a few words; "" of the zero Rule.
func (r Rule) Name() string {
	does := r.does()
	if r.Delay != 0 {
		does = append([]string{"delay"}, does...)
	}
	return strings.Join(does, ", ")
}

// ofState tells a rule about what becomes of things from one about calls.
func (r Rule) ofState() bool { return r.Outcome != "" || r.Stale != (Stale{}) }

// act is the act that a rule of state is for.
func (r Rule) act() string {
	if act, ok := actOf[r.Action]; ok {
		return act
	}
	return r.Action
}

// isStaleOutcome tells whether what a rule does is an outcome that is told of late:
// the only two things that go together.
func (r Rule) isStaleOutcome(does []string) bool {
	return r.Outcome != "" && r.Stale != (Stale{}) && len(does) == 2
}

// Check tells what of a rule makes no sense.
func (r Rule) Check() error {
	if err := r.checkNumbers(); err != nil {
		return err
	}
	if err := r.checkWords(); err != nil {
		return err
	}
	does := r.does()
	switch {
	case len(does) == 0 && r.Delay == 0:
		return errors.New("it has nothing to do: nothing would happen")
	case len(does) > 1 && !r.isStaleOutcome(does):
		return fmt.Errorf("it does more than one thing: %s", strings.Join(does, ", "))
	case r.Status == 0 && (r.Code != "" || r.Message != ""):
		return errors.New("a code and a message go with a status")
	case r.ofState():
		return r.checkOfState()
	}
	return nil
}

func (r Rule) checkNumbers() error {
	switch {
	case r.Skip < 0 || r.Times < 0 || r.Stale.Reads < 0 || r.Stale.Changes < 0:
		return errors.New("skip, times, reads and changes cannot be negative")
	case !(r.Probability >= 0 && r.Probability <= 1):
		return fmt.Errorf("the probability %v is not from 0 to 1", r.Probability)
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return fmt.Errorf("the status %d is not one of an error", r.Status)
	}
	return nil
}

func (r Rule) checkWords() error {
	sides := []string{"before", "after"}
	for _, w := range []struct {
		name, value string
		known       []string
	}{
		{"error", r.Error, errorWords},
		{"drop", string(r.Drop), sides},
		{"hang", string(r.Hang), sides},
		{"hold", string(r.Hold), sides},
		{"body", string(r.Body), []string{"garbage", "truncated", "cut", "empty"}},
		{"outcome", r.Outcome, outcomeWords},
	} {
		if w.value != "" && !slices.Contains(w.known, w.value) {
			return fmt.Errorf("%s is %q, not one of %s", w.name, w.value, strings.Join(w.known, ", "))
		}
	}
	for _, rw := range r.Rewrite {
		if rw.Match.Regexp == nil {
			return errors.New("a rewrite has nothing to match")
		}
	}
	return nil
}

// checkOfState refuses what an act cannot have: a dialect, for the thing is one
// whoever made it, and a delay.
func (r Rule) checkOfState() error {
	switch {
	case r.Dialect != "" || r.Delay != 0:
		return errors.New("an outcome and stale go with no dialect and no delay")
	case r.Action != "" && !slices.Contains(acts, r.act()):
		return fmt.Errorf("the action %s has no outcome and does not go stale; these do: %s", r.Action, strings.Join(acts, ", "))
	case r.Outcome != "" && r.Action != "" && !slices.Contains(endings[r.Outcome], r.act()):
		return fmt.Errorf("the action %s cannot have the outcome %s; these can: %s",
			r.Action, r.Outcome, strings.Join(endings[r.Outcome], ", "))
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

func strictly(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}
