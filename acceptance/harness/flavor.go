package harness

import (
	"slices"
	"strings"
	"testing"
)

// Flavor holds the differences between the two builders, and those of direct builds.
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

// WithDirect are the two builders and amazon-chroot without an instance.
var WithDirect = append(slices.Clone(Flavors), Direct)

// Covered returns the flavors of a matrix that covers direct builds only if all of its points run.
func Covered() []Flavor {
	if All {
		return WithDirect
	}
	return Flavors
}

// String returns the name for subtests and tables.
func (f Flavor) String() string {
	if f.Direct {
		return f.Name + " with ebs_direct"
	}
	return f.Name
}

// Host returns the arguments of a loopcloud that is the flavor's host.
func (f Flavor) Host() []string {
	if f.Direct {
		return []string{"--hosts", "0"}
	}
	return nil
}

// Both runs a test for each builder, side by side.
func Both(t *testing.T, test func(t *testing.T, f Flavor)) {
	t.Helper()
	Each(t, Flavors, test)
}

// Each runs a test for each of the flavors, side by side.
func Each(t *testing.T, flavors []Flavor, test func(t *testing.T, f Flavor)) {
	t.Helper()
	NeedRoot(t)
	t.Parallel()
	for _, f := range flavors {
		t.Run(f.String(), func(t *testing.T) {
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

// directNames are the actions that direct builds call in place of another one.
var directNames = map[string]string{"CreateSnapshot": "StartSnapshot"}

// Action returns the flavor's name of an action.
func (f *Flavor) Action(action string) string {
	names := map[string]string{}
	switch {
	case f.Direct:
		names = directNames
	case f.Name == "osc-chroot":
		names = oapiNames
	}
	if name, ok := names[action]; ok {
		return name
	}
	return action
}
