package retry_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// TestCreateOnce checks that a call that creates another resource each time is repeated only
// after its effect was searched for.
func TestCreateOnce(t *testing.T) {
	lost, permanent := kindError(retry.Lost), kindError(retry.Permanent)
	for name, test := range map[string]struct {
		begun   bool
		answers []error // of creating, in turn
		found   int     // at which look the resource is found; 0 for never
		look    error   // an error of the first look
		want    []string
		err     error
	}{
		"at once":                   {answers: []error{nil}, want: []string{"create"}},
		"begun before":              {begun: true, answers: []error{nil}, want: []string{"find", "create"}},
		"begun before, and there":   {begun: true, found: 1, want: []string{"find"}},
		"a lost answer, and there":  {answers: []error{lost}, found: 1, want: []string{"create", "find"}},
		"a lost answer, no effect":  {answers: []error{lost, nil}, want: []string{"create", "find", "create"}},
		"refused":                   {answers: []error{permanent}, want: []string{"create"}, err: permanent},
		"it cannot be looked for":   {begun: true, look: permanent, want: []string{"find"}, err: permanent},
		"the look is made again":    {begun: true, look: lost, answers: []error{nil}, want: []string{"find", "find", "create"}},
		"there at the second look":  {answers: []error{lost, lost}, found: 2, want: []string{"create", "find", "create", "find"}},
		"two lost answers in a row": {answers: []error{lost, lost, nil}, want: []string{"create", "find", "create", "find", "create"}},
	} {
		t.Run(name, func(t *testing.T) {
			var made []string
			looks := 0
			find := func(context.Context) (bool, error) {
				made = append(made, "find")
				if looks++; looks == 1 && test.look != nil {
					return false, test.look
				}
				return looks == test.found, nil
			}
			create := func(context.Context) error {
				made = append(made, "create")
				answer := test.answers[0]
				test.answers = test.answers[1:]
				return answer
			}
			policy := retry.Policy{Clock: new(cloudtest.Clock)}
			err := policy.Do(t.Context(), retry.Call{Service: "EC2", Action: "CreateSnapshot", Kind: kindOf}, retry.CreateOnce(test.begun, find, create))
			if !slices.Equal(made, test.want) || !errors.Is(err, test.err) {
				t.Errorf("%q, %v; want %q, %v", made, err, test.want, test.err)
			}
		})
	}
}

// TestBegun checks that each call is begun for the first time once.
func TestBegun(t *testing.T) {
	var begun retry.Begun[string]
	for i, want := range []bool{false, true, true} {
		if got := begun.Again("image"); got != want {
			t.Errorf("call %d was begun before: %v", i, got)
		}
	}
	if begun.Again("another image") {
		t.Error("another call was begun before")
	}
}

// TestTable checks that an operation has the pause and the endpoint of its entry in the table.
func TestTable(t *testing.T) {
	table := retry.Table{"Slow": {First: time.Second}, "Elsewhere": {Apart: true}}
	policy := retry.Policy{First: time.Minute, Reached: func() bool { return true }}
	for action, want := range map[string]struct {
		first   time.Duration
		reached bool
	}{"Slow": {time.Second, true}, "Elsewhere": {time.Minute, false}, "unknown": {time.Minute, true}} {
		if got := table.For(action, policy); got.First != want.first || got.Reached() != want.reached {
			t.Errorf("%s: %v, reached %v", action, got.First, got.Reached())
		}
	}
}

// TestPasses: only the refusals that the table names for an operation pass.
func TestPasses(t *testing.T) {
	full, denied := errors.New("no capacity"), errors.New("not allowed")
	table := retry.Table{"Copy": {Passes: func(err error) bool { return errors.Is(err, full) }}, "Read": {}}
	for _, test := range []struct {
		action string
		err    error
		want   bool
	}{{"Copy", full, true}, {"Copy", denied, false}, {"Copy", nil, false}, {"Read", full, false}, {"unknown", full, false}} {
		if got := table.Passes(test.action, test.err); got != test.want {
			t.Errorf("%s, %v: %t, want %t", test.action, test.err, got, test.want)
		}
	}
}
