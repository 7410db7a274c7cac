package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// When is the side of a call's effect on which a fault happens.
type When string

// The sides of a call's effect.
const (
	Never  When = ""
	Before When = "before" // nothing was done
	After  When = "after"  // the request has taken effect
)

// The names of throttling errors: of the whole platform, of an account, and of one action of an
// account.
const (
	Throttled        = "throttled"
	ThrottledAccount = "throttled-account"
	ThrottledCall    = "throttled-call"
)

// Rule selects calls and describes their fault: one effect, after an optional delay. The fields with
// the tag effect are the effects.
type Rule struct {
	// Action is the action that the rule applies to, by its name in the dialect; empty is any.
	// For Outcome and Stale it is the name of an act.
	Action string `json:"action,omitempty"`
	// Dialect is ebs, ec2, imds, kms, oapi or sts; empty is any.
	Dialect string `json:"dialect,omitempty"`
	// Skip is the number of calls to skip first.
	Skip Count `json:"skip,omitempty"`
	// Times is the number of calls that the rule applies to; 0 is all.
	Times Count `json:"times,omitempty"`
	// Lasts is how long the rule is in force, from the first call that it applies to; 0 is
	// without end.
	Lasts Duration `json:"lasts,omitzero"`
	// Probability, from 0 to 1, is the share of calls that the rule applies to; 0 is all.
	Probability float64 `json:"probability,omitempty"`

	// Delay is the delay before the effect. In JSON it is a text such as "1.5s".
	Delay Duration `json:"delay,omitzero"`

	// Error refuses the call with the dialect's own status, code and message. It is throttled,
	// throttled-account, throttled-call, internal, unavailable or denied. The first three are the
	// same in a dialect with one kind of throttling.
	Error string `json:"error,omitempty" effect:"call"`
	// Status, from 400 to 599, refuses the call with Code and Message in the dialect's form.
	Status  int    `json:"status,omitempty" effect:"call"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Drop resets the connection instead of responding.
	Drop When `json:"drop,omitempty" effect:"side"`
	// Hang never responds; it ends when the client disconnects.
	Hang When `json:"hang,omitempty" effect:"side"`
	// Hold holds the call until it is released.
	Hold When `json:"hold,omitempty" effect:"side"`
	// Trickle is the pause between small parts of the response's body.
	Trickle Duration `json:"trickle,omitzero" effect:"response"`
	Body    Body     `json:"body,omitempty" effect:"response"`
	// Rewrite changes the response's body.
	Rewrite []Rewrite `json:"rewrite,omitempty" effect:"response"`
	// Outcome is how the operation that the call starts ends: error, never, no-device or
	// disk-full.
	Outcome string `json:"outcome,omitempty" effect:"act"`
	// Stale is how long calls see a resource as it was before the act.
	Stale Stale `json:"stale,omitzero" effect:"act"`
}

// Rewrite replaces all matches of a regular expression. In With, $1 is the text of the first
// group.
type Rewrite struct {
	Match Pattern `json:"match"`
	With  string  `json:"with"`
}

// Stale is a number of describing calls or a time, whichever lasts longer, and a number of
// refusals of changing calls.
type Stale struct {
	Reads   Count    `json:"reads,omitempty"`
	For     Duration `json:"for,omitzero"`
	Changes Count    `json:"changes,omitempty"`
}

// Pattern is a regular expression. In JSON it is its text.
type Pattern struct{ *regexp.Regexp }

// MarshalText returns the text of the expression.
func (p Pattern) MarshalText() ([]byte, error) {
	if p.Regexp == nil {
		return nil, errors.New("there is no expression")
	}
	return p.Regexp.MarshalText()
}

// UnmarshalText parses an expression of package regexp.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	p.Regexp, err = regexp.Compile(string(text))
	return err
}

// Duration is a time.Duration. In JSON it is its text.
type Duration time.Duration

// MarshalText returns the duration as text, such as 1.5s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText parses the input of time.ParseDuration. The duration must not be negative.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err == nil && v < 0 {
		err = fmt.Errorf("the duration %s is negative", v)
	}
	*d = Duration(v)
	return err
}

// Count is a number. JSON with a negative one is refused.
type Count int

// UnmarshalJSON parses a number, which must not be negative. Package json adds the name of the field
// to the error.
func (c *Count) UnmarshalJSON(text []byte) error {
	err := json.Unmarshal(text, (*int)(c))
	if err == nil && *c < 0 {
		err = &json.UnmarshalTypeError{Value: fmt.Sprintf("the negative number %d", *c), Type: reflect.TypeFor[Count]()}
	}
	return err
}

// words are the valid values of fields that have only some, by the field's name in JSON.
var words = map[string][]string{
	"error":   {Throttled, ThrottledAccount, ThrottledCall, "internal", "unavailable", "denied"},
	"drop":    {string(Before), string(After)},
	"hang":    {string(Before), string(After)},
	"hold":    {string(Before), string(After)},
	"body":    bodyWords(),
	"outcome": slices.Sorted(maps.Keys(endings)),
}

var (
	// acts are the acts that can have an outcome or become stale, by EC2's names.
	acts = []string{
		"CreateVolume", "AttachVolume", "DetachVolume", "DeleteVolume",
		"CreateSnapshot", "CopySnapshot", "DeleteSnapshot", "RegisterImage", "CopyImage", "DeregisterImage",
		"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot",
	}
	// endings are the acts that each outcome is possible for.
	endings = map[string][]string{
		"error":     {"CreateVolume", "CreateSnapshot", "CopySnapshot", "RegisterImage", "CopyImage", "CompleteSnapshot"},
		"never":     {"CreateVolume", "AttachVolume", "DetachVolume", "CreateSnapshot", "CopySnapshot", "RegisterImage", "CopyImage", "CompleteSnapshot"},
		"no-device": {"AttachVolume"},
		"disk-full": {"CreateVolume", "AttachVolume", "CreateSnapshot", "CopySnapshot", "CopyImage", "StartSnapshot", "PutSnapshotBlock"},
	}
	// actOf maps Outscale's names of acts to EC2's.
	actOf = map[string]string{
		"LinkVolume": "AttachVolume", "UnlinkVolume": "DetachVolume",
		"CreateImage": "RegisterImage", "DeleteImage": "DeregisterImage",
	}
)

// effect is a field of a rule with the tag effect, whose value is the object of the effect: call, act
// or response. The value side means the call, or the response if the field is After.
type effect struct {
	// field is the field's name in JSON.
	field string
	// value is the field's value as text.
	value string
	// ofResponse reports whether the effect changes the response, or comes after it was made.
	ofResponse bool
}

// effects returns the effects of a rule, without the delay.
func (r Rule) effects() []effect {
	var all []effect
	v := reflect.ValueOf(r)
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		if of, ok := tag.Lookup("effect"); ok && !isEmpty(v.Field(i)) {
			field, _, _ := strings.Cut(tag.Get("json"), ",")
			value := fmt.Sprint(v.Field(i).Interface())
			all = append(all, effect{field, value, of == "response" || of == "side" && When(value) == After})
		}
	}
	return all
}

// isEmpty reports whether JSON with omitempty has no such value.
func isEmpty(v reflect.Value) bool {
	return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0
}

// name returns a short description of an effect.
func (e effect) name() string {
	switch {
	case e.field == "error":
		return e.value
	case e.field == "status" || words[e.field] != nil:
		return e.field + " " + e.value
	}
	return e.field
}

// ChangesResponse reports whether a response must be complete before it is sent.
func (r Rule) ChangesResponse() bool {
	return slices.ContainsFunc(r.effects(), func(e effect) bool { return e.ofResponse })
}

// names returns the names of the effects of a rule.
func (r Rule) names() []string {
	var names []string
	for _, e := range r.effects() {
		names = append(names, e.name())
	}
	return names
}

// Name returns a short description of the effect; "" for the zero Rule.
func (r Rule) Name() string {
	names := r.names()
	if r.Delay != 0 {
		names = append([]string{"delay"}, names...)
	}
	return strings.Join(names, ", ")
}

// ofState reports whether a rule applies to acts rather than to calls.
func (r Rule) ofState() bool { return r.Outcome != "" || r.Stale != (Stale{}) }

// act returns the act that a rule applies to.
func (r Rule) act() string {
	if act, ok := actOf[r.Action]; ok {
		return act
	}
	return r.Action
}

// isStaleOutcome reports whether the effects are an outcome and a stale state. No other two
// effects can be combined.
func (r Rule) isStaleOutcome(effects int) bool {
	return r.Outcome != "" && r.Stale != (Stale{}) && effects == 2
}

// Check returns an error if a rule is invalid.
func (r Rule) Check() error {
	if err := r.checkNumbers(); err != nil {
		return err
	}
	if err := r.checkWords(); err != nil {
		return err
	}
	effects := r.names()
	switch {
	case len(effects) == 0 && r.Delay == 0:
		return errors.New("it has no effect")
	case len(effects) > 1 && !r.isStaleOutcome(len(effects)):
		return fmt.Errorf("more than one effect: %s", strings.Join(effects, ", "))
	case r.Status == 0 && (r.Code != "" || r.Message != ""):
		return errors.New("a code and a message need a status")
	case r.ofState():
		return r.checkOfState()
	}
	return nil
}

func (r Rule) checkNumbers() error {
	switch {
	case !(r.Probability >= 0 && r.Probability <= 1):
		return fmt.Errorf("the probability %v is not from 0 to 1", r.Probability)
	case r.Status != 0 && (r.Status < 400 || r.Status > 599):
		return fmt.Errorf("the status %d is not from 400 to 599", r.Status)
	}
	return nil
}

func (r Rule) checkWords() error {
	for _, e := range r.effects() {
		if valid := words[e.field]; valid != nil && !slices.Contains(valid, e.value) {
			return fmt.Errorf("%s is %q, not one of %s", e.field, e.value, strings.Join(valid, ", "))
		}
	}
	for _, rw := range r.Rewrite {
		if rw.Match.Regexp == nil {
			return errors.New("a rewrite has nothing to match")
		}
	}
	return nil
}

// checkOfState checks a rule for acts. An act has no dialect, because all dialects share the
// resource, and no delay.
func (r Rule) checkOfState() error {
	switch {
	case r.Dialect != "" || r.Delay != 0:
		return errors.New("outcome and stale cannot be combined with a dialect or a delay")
	case r.Action != "" && !slices.Contains(acts, r.act()):
		return fmt.Errorf("the action %s has no outcome and does not become stale; these do: %s", r.Action, strings.Join(acts, ", "))
	case r.Stale != (Stale{}) && r.Action == "PutSnapshotBlock":
		return errors.New("PutSnapshotBlock has no stale state: its effect is only seen when the snapshot is complete")
	case r.Outcome != "" && r.Action != "" && !slices.Contains(endings[r.Outcome], r.act()):
		return fmt.Errorf("the action %s cannot have the outcome %s; these can: %s",
			r.Action, r.Outcome, strings.Join(endings[r.Outcome], ", "))
	}
	return nil
}

// ParseRules parses one rule or a list of rules. It returns an error for unknown fields.
func ParseRules(text []byte) ([]Rule, error) {
	many, err := decodeRules(text)
	if err != nil {
		return nil, fmt.Errorf("not a rule: %w", err)
	}
	for i, r := range many {
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	return many, nil
}

// decodeRules decodes one rule or a list of rules.
func decodeRules(text []byte) ([]Rule, error) {
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("[")) {
		var many []Rule
		err := strictly(text, &many)
		return many, err
	}
	one := make([]Rule, 1)
	return one, strictly(text, &one[0])
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
