package harness

import (
	"strings"
	"testing"
)

// Flavor holds the differences between the two builders.
type Flavor struct {
	Name, Prefix, BuilderID string
	// Direct adds ebs_direct to every template.
	Direct bool
}

// Flavors are the two builders.
var Flavors = []Flavor{
	{Name: "amazon-chroot", Prefix: "ami", BuilderID: "mitchellh.amazon.chroot"},
	{Name: "osc-chroot", Prefix: "omi", BuilderID: "oapi.outscale.chroot"},
}

// Direct is amazon-chroot without an instance.
var Direct = Flavor{Name: "amazon-chroot", Prefix: "ami", BuilderID: "mitchellh.amazon.chroot", Direct: true}

// Both runs a test for each builder, side by side.
func Both(t *testing.T, test func(t *testing.T, f Flavor)) {
	t.Helper()
	NeedRoot(t)
	t.Parallel()
	for _, f := range Flavors {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// Basic returns the required options of this builder, with others over them.
func (f *Flavor) Basic(more map[string]any) map[string]any {
	options := map[string]any{
		"type":               f.Name,
		"source_" + f.Prefix: SourceID,
		f.Prefix + "_name":   "made by " + f.Name,
	}
	if f.Direct {
		options["ebs_direct"] = true
	}
	for k, v := range more {
		if v == nil {
			delete(options, strings.ReplaceAll(k, "PREFIX", f.Prefix))
			continue
		}
		options[strings.ReplaceAll(k, "PREFIX", f.Prefix)] = v
	}
	return options
}

// oapiNames are the actions with another name in Outscale's API.
var oapiNames = map[string]string{"AttachVolume": "LinkVolume", "DetachVolume": "UnlinkVolume", "RegisterImage": "CreateImage"}

// Action returns the flavor's name of an action.
func (f *Flavor) Action(action string) string {
	if name, ok := oapiNames[action]; ok && f.Name == "osc-chroot" {
		return name
	}
	return action
}
