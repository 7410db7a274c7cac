package fault_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
)

// TestMeet has each rule meet six calls of CreateVolume; a dot is a call that
// passes, a digit the status of the one that does not.
func TestMeet(t *testing.T) {
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
				if r := rules.Meet("ec2", "CreateVolume"); r.Status != 0 {
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

func TestListTellsWhatIsLeft(t *testing.T) {
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
		rules.Meet("ec2", "CreateVolume")
	}
	rules.Clear()
	if left() != "[]" {
		t.Errorf("cleared, left are %s", left())
	}
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
		``:                               "not a rule",
		`{`:                              "not a rule",
		`{}`:                             "nothing would happen",
		`{"statu":500}`:                  "statu",
		`{"status":200}`:                 "200",
		`{"status":500,"drop":"after"}`:  "more than one thing",
		`{"drop":"during"}`:              "during",
		`{"delay":"soon"}`:               "soon",
		`{"delay":"-1s"}`:                "negative",
		`{"status":500,"times":-1}`:      "negative",
		`[{"status":500},{"status":1}]`:  "rule 2",
		`{"status":500}{"status":500}`:   "follows",
		`[{"status":500,"unknown":"x"}]`: "not a rule",
	} {
		if _, err := fault.ParseRules([]byte(text)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: the error is %v", text, err)
		}
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add([]byte(`[{"status":503},{"delay":"1s"}]`))
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

func TestCalls(t *testing.T) {
	var calls fault.Calls
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
	var calls fault.Calls
	const many = 150_000
	for range many {
		calls.Record(fault.Call{})
	}
	got := calls.List()
	if len(got) > 100_000 || got[len(got)-1].N != many {
		t.Errorf("%d calls are kept, the last is %d", len(got), got[len(got)-1].N)
	}
}
