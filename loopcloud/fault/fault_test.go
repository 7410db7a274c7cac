package fault_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
)

// TestMatchCall applies each rule to six calls of CreateVolume: a dot is a call without a fault,
// a digit the first digit of the status of another one.
func TestMatchCall(t *testing.T) {
	for name, test := range map[string]struct {
		rules []fault.Rule
		want  string
	}{
		"none":             {nil, "......"},
		"always":           {[]fault.Rule{{Status: 500}}, "555555"},
		"once":             {[]fault.Rule{{Status: 500, Times: 1}}, "5....."},
		"twice, later":     {[]fault.Rule{{Status: 500, Times: 2, Skip: 3}}, "...55."},
		"after the third":  {[]fault.Rule{{Status: 500, Skip: 3}}, "...555"},
		"another action":   {[]fault.Rule{{Status: 500, Action: "CreateSnapshot"}}, "......"},
		"this action":      {[]fault.Rule{{Status: 500, Action: "CreateVolume"}}, "555555"},
		"another dialect":  {[]fault.Rule{{Status: 500, Dialect: "oapi"}}, "......"},
		"one, then two":    {[]fault.Rule{{Status: 500, Times: 1}, {Status: 400, Times: 2}}, "544..."},
		"skipped by first": {[]fault.Rule{{Status: 500, Times: 1, Skip: 2}, {Status: 400, Times: 2}}, "445..."},
	} {
		t.Run(name, func(t *testing.T) {
			var rules fault.Rules
			rules.Add(test.rules...)
			var got strings.Builder
			for range 6 {
				if r := rules.MatchCall("ec2", "CreateVolume"); r.Status != 0 {
					fmt.Fprint(&got, r.Status/100)
				} else {
					got.WriteByte('.')
				}
			}
			if got.String() != test.want {
				t.Errorf("the calls went %s, not %s", &got, test.want)
			}
		})
	}
}

func TestListCountsRemainingUses(t *testing.T) {
	var rules fault.Rules
	rules.Add(fault.Rule{Status: 500, Skip: 1, Times: 2}, fault.Rule{Status: 400})
	left := func() string { return fmt.Sprint(rules.List()) }
	for _, want := range [][]fault.Rule{
		{{Status: 500, Skip: 1, Times: 2}, {Status: 400}},
		{{Status: 500, Times: 2}, {Status: 400}},
		{{Status: 500, Times: 1}, {Status: 400}},
		{{Status: 400}},
	} {
		if left() != fmt.Sprint(want) {
			t.Errorf("left are %s, not %v", left(), want)
		}
		rules.MatchCall("ec2", "CreateVolume")
	}
	rules.Clear()
	if left() != "[]" {
		t.Errorf("cleared, left are %s", left())
	}
}

// TestRuleTimeLimit checks that a limited rule begins with the first call that it applies to,
// and is removed when its time has passed.
func TestRuleTimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rules fault.Rules
		rules.Add(fault.Rule{Action: "CreateVolume", Skip: 1, Lasts: fault.Duration(30 * time.Second), Error: fault.Throttled})
		met := func(after time.Duration, want string, left int) {
			t.Helper()
			time.Sleep(after)
			if got := rules.MatchCall("ec2", "CreateVolume").Error; got != want || len(rules.List()) != left {
				t.Errorf("after another %v it is %q, and left are %v", after, got, rules.List())
			}
		}
		met(time.Hour, "", 1) // skipped
		met(time.Hour, "throttled", 1)
		met(29*time.Second, "throttled", 1)
		if left := rules.List()[0].Lasts; left != fault.Duration(time.Second) {
			t.Errorf("%v are left", time.Duration(left))
		}
		met(time.Second, "", 0)
	})
}

func TestParseRules(t *testing.T) {
	got, err := fault.ParseRules([]byte(`{"action":"CreateVolume","times":1,"skip":2,"delay":"1.5s","drop":"after"}`))
	want := []fault.Rule{{Action: "CreateVolume", Times: 1, Skip: 2, Delay: fault.Duration(1500 * time.Millisecond), Drop: fault.After}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it is %v (%v)", got, err)
	}
	if got, err := fault.ParseRules([]byte(`[{"status":503},{"delay":"1s"}]`)); err != nil || len(got) != 2 {
		t.Errorf("two are %v (%v)", got, err)
	}
	for text, why := range map[string]string{
		``:                                               "not a rule",
		`{`:                                              "not a rule",
		`{}`:                                             "no effect",
		`{"statu":500}`:                                  "statu",
		`{"status":200}`:                                 "200",
		`{"status":500,"drop":"after"}`:                  "more than one effect",
		`{"drop":"during"}`:                              "during",
		`{"delay":"soon"}`:                               "soon",
		`{"delay":"-1s"}`:                                "negative",
		`{"status":500,"times":-1}`:                      "the negative number -1 into Go struct field Rule.times",
		`{"status":500,"skip":1.5}`:                      "1.5",
		`{"status":500,"lasts":"-1s"}`:                   "negative",
		`[{"status":500},{"status":1}]`:                  "rule 2",
		`{"status":500}{"status":500}`:                   "follows",
		`[{"status":500,"unknown":"x"}]`:                 `not a rule: json: unknown field "unknown"`,
		`{"error":"tired"}`:                              "tired",
		`{"error":"throttled","hold":"before"}`:          "more than one effect: throttled, hold before",
		`{"hang":"meanwhile"}`:                           "meanwhile",
		`{"body":"odd"}`:                                 "odd",
		`{"delay":"1s","code":"x"}`:                      "need a status",
		`{"drop":"after","probability":1.5}`:             "1.5",
		`{"drop":"after","probability":-1}`:              "-1",
		`{"rewrite":[{"with":"x"}]}`:                     "nothing to match",
		`{"rewrite":[{"match":"(","with":"x"}]}`:         "not a rule",
		`{"outcome":"sad"}`:                              "sad",
		`{"outcome":"error","action":"DescribeVolumes"}`: "DescribeVolumes has no outcome",
		`{"stale":{"reads":1},"action":"PutSnapshotBlock"}`: "has no stale state",
		`{"outcome":"no-device","action":"CreateVolume"}`:   "these can: AttachVolume",
		`{"outcome":"error","dialect":"ec2"}`:               "a dialect or a delay",
		`{"outcome":"error","hang":"after"}`:                "more than one effect",
		`{"stale":{"reads":-1}}`:                            "the negative number -1 into Go struct field Stale.stale.reads",
		`{"stale":{"changes":-2}}`:                          "the negative number -2",
		`[{"status":500},{"status":500,"skip":-3}]`:         "the negative number -3",
		`[{"status":500,"lasts":"-1s"}]`:                    "the duration -1s is negative",
		`{"stale":{"reads":1},"delay":"1s"}`:                "a dialect or a delay",
		`{"stale":{}}`:                                      "no effect",
		`{"rewrite":[]}`:                                    "no effect",
		`{"status":500}]`:                                   "follows",
	} {
		if _, err := fault.ParseRules([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: the error is %v", text, err)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	for _, text := range []string{
		`[{"status":503},{"delay":"1s"}]`, `{"rewrite":[{"match":"vol-(.*)","with":"$1"}]}`,
		`{"outcome":"never","action":"LinkVolume","stale":{"reads":2,"for":"1s"}}`, `{"hold":"after","probability":0.5}`, `{"error":"throttled-call","lasts":"30s"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := fault.ParseRules(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(rules)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fault.ParseRules(again); err != nil || len(got) != len(rules) {
			t.Errorf("%s became %s: %v", text, again, err)
		}
	})
}

func TestCallLog(t *testing.T) {
	var calls fault.CallLog
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() { calls.Record(fault.Call{Action: "CreateVolume"}) })
	}
	all.Wait()
	for i, c := range calls.List() {
		if c.N != i+1 {
			t.Errorf("call %d has the number %d", i+1, c.N)
		}
	}
	calls.Clear()
	calls.Record(fault.Call{Action: "DeleteVolume"})
	if got := calls.List(); len(got) != 1 || got[0].N != 11 {
		t.Errorf("cleared, the calls are %v", got)
	}
}

func TestCallsForgetTheOldest(t *testing.T) {
	var calls fault.CallLog
	const many = 150_000
	for range many {
		calls.Record(fault.Call{})
	}
	got := calls.List()
	if len(got) > 100_000 || got[len(got)-1].N != many {
		t.Errorf("%d calls are in the log, the last is %d", len(got), got[len(got)-1].N)
	}
}

// TestMatchAct checks that rules for acts apply to acts, and the others to calls.
func TestMatchAct(t *testing.T) {
	var rules fault.Rules
	rules.Add(
		fault.Rule{Action: "LinkVolume", Outcome: "never", Times: 1},
		fault.Rule{Outcome: "no-device", Times: 1},
		fault.Rule{Outcome: "error", Skip: 1, Times: 1},
		fault.Rule{Error: "internal"},
	)
	for i, test := range []struct{ act, want string }{
		{"AttachVolume", "outcome never"}, {"AttachVolume", "outcome no-device"}, {"AttachVolume", ""},
		{"CreateVolume", ""}, {"CreateSnapshot", "outcome error"}, {"CreateSnapshot", ""},
	} {
		if got := rules.MatchAct(test.act).Name(); got != test.want {
			t.Errorf("act %d: %q befalls %s, not %q", i+1, got, test.act, test.want)
		}
	}
	if got := rules.MatchCall("ec2", "AttachVolume").Name(); got != "internal" {
		t.Errorf("the call meets %q", got)
	}
}

// TestProbability checks that the same seed and calls give the same faults, in about the given
// share of calls, and that a rule that does not apply leaves the call to the next rule.
func TestProbability(t *testing.T) {
	play := func(seed uint64) (string, int) {
		var rules fault.Rules
		rules.Seed(seed)
		rules.Add(fault.Rule{Status: 500, Probability: 0.3}, fault.Rule{Status: 400})
		var got strings.Builder
		for range 1000 {
			fmt.Fprint(&got, rules.MatchCall("ec2", "CreateVolume").Status/100)
		}
		return got.String(), strings.Count(got.String(), "5")
	}
	first, n := play(1)
	if again, _ := play(1); again != first {
		t.Error("one seed gave two sequences")
	}
	if other, _ := play(2); other == first {
		t.Error("two seeds gave one sequence")
	}
	if n < 200 || n > 400 || strings.Count(first, "4") != 1000-n {
		t.Errorf("of 1000 calls, %d met it: %s", n, first)
	}
}

func TestHolds(t *testing.T) {
	var holds fault.Holds
	ended := make(chan error, 3)
	wait := func(ctx context.Context, action string) fault.Held {
		before := len(holds.List())
		go func() { ended <- holds.Wait(ctx, fault.Held{Action: action, When: fault.Before}) }()
		for len(holds.List()) == before {
			runtime.Gosched()
		}
		list := holds.List()
		return list[len(list)-1]
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, second := wait(t.Context(), "CreateVolume"), wait(ctx, "AttachVolume")
	if first.N != 1 || second.N != 2 || first.Action != "CreateVolume" || first.Since.IsZero() {
		t.Errorf("held are %+v and %+v", first, second)
	}
	if !holds.Release(1) || <-ended != nil || holds.Release(1) {
		t.Error("the first was not released once")
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("a call whose client went away goes on")
	}
	for len(holds.List()) > 0 {
		runtime.Gosched()
	}
	third := wait(t.Context(), "DeleteVolume")
	holds.ReleaseAll()
	if err := <-ended; err != nil || third.N != 3 {
		t.Errorf("the third, %d, ended with %v", third.N, err)
	}
}

func TestAwaitAHold(t *testing.T) {
	var holds fault.Holds
	found := make(chan []fault.Held)
	go func() { found <- holds.Await(t.Context()) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = holds.Wait(ctx, fault.Held{Action: "CreateVolume"}) }()
	if got := <-found; len(got) != 1 || got[0].Action != "CreateVolume" {
		t.Errorf("found were %+v", got)
	}
	over, end := context.WithCancel(t.Context())
	end()
	var none fault.Holds
	if got := none.Await(over); len(got) != 0 {
		t.Errorf("found were %+v", got)
	}
}
