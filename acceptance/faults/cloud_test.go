package faults

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestFaultAtFirstCalls checks that a build succeeds, and replaces the old image, if the cloud
// fails the first call of every action.
func TestFaultAtFirstCalls(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		b := harness.New(t, f.Host()...)
		template := b.Template(f.Basic(map[string]any{"force_deregister": true, "force_delete_snapshot": true}), harness.Shell("true"))
		b.Build(template)
		b.Calls()
		b.Build(template)
		var rules []map[string]any
		ruled := map[string]bool{"imds": true}
		for _, c := range b.Calls() {
			if action := c.Dialect + " " + c.Action; !ruled[c.Dialect] && !ruled[action] {
				ruled[action] = true
				rules = append(rules, map[string]any{"dialect": c.Dialect, "action": c.Action, "times": 1, "error": "internal"})
			}
		}
		before := len(b.Inventory())
		out, ok, met := buildWithFaults(b, template, rules...)
		if !ok || !met || len(rules) < 10 {
			t.Errorf("built %v, met all of %v: %v\n%s", ok, rules, met, out)
		}
		b.Clean()
		harness.Want(b, "things in the cloud", len(b.Inventory()), before)
	})
}
