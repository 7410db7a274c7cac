//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// runTag is the key of the tag with the ID of a run.
const runTag = "packer-chroot-real"

// runID matches the ID of a run.
var runID = regexp.MustCompile(`^real-\d{8}-\d{6}-[0-9a-f]{4}$`)

// cloud holds the requests that a run makes itself, in addition to those of its builds.
type cloud interface {
	// account returns the account's ID.
	account(ctx context.Context) (string, error)
	// image returns an image in the API's form, and the ID of its first snapshot.
	image(ctx context.Context, region, id string) (image any, snapshot string, err error)
	snapshot(ctx context.Context, region, id string) (any, error)
	// tagged lists the resources with a run's tag in all regions: images, then snapshots,
	// then volumes.
	tagged(ctx context.Context, run string) ([]resource, error)
	// remove removes a resource. It returns nil if the resource does not exist.
	remove(ctx context.Context, t resource) error
	// probe makes a call that counts towards the limits of the API, and reports whether it
	// was throttled.
	probe(ctx context.Context) (throttled bool, err error)
}

// resource is a resource of a run.
type resource struct{ kind, id, region, state string }

func (t resource) String() string {
	s := t.kind + " " + t.id + " in " + t.region
	if t.state != "" {
		s += " (" + t.state + ")"
	}
	return s
}

// environment holds a cloud's settings from the process's environment.
type environment struct {
	// builder is the builder's name, and currency the currency of costs.
	builder, currency string
	region            string
	budgetKey, budget string
	dial              func(ctx context.Context) (cloud, error)
}

// requirement holds sets of variables, one of which must be complete.
type requirement struct {
	sets  [][]string
	about string
}

// missing returns the variables that must be set, or "" if none is missing.
func (n requirement) missing() string {
	var ways []string
	for _, set := range n.sets {
		if !slices.ContainsFunc(set, func(name string) bool { return os.Getenv(name) == "" }) {
			return ""
		}
		ways = append(ways, strings.Join(set, " and "))
	}
	return strings.Join(ways, ", or ") + ": " + n.about
}

var budget = requirement{[][]string{{"REAL_BUDGET_TAG"}}, "the tag of all resources for the bill, as KEY=VALUE"}
var source = requirement{[][]string{{"REAL_SOURCE"}}, "the id of the image to build from"}

// clouds holds the clouds by name.
var clouds = map[string]struct {
	// needs holds the requirements of builds and of cleaning up.
	needs       []requirement
	environment environment
}{
	"aws": {[]requirement{
		{[][]string{{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}, {"AWS_PROFILE"}}, "the keys to build with; an instance's role is not used"},
		{[][]string{{"AWS_REGION"}}, "the region that this host is in"},
	}, environment{builder: "amazon-chroot", currency: "USD", dial: dialAWS}},
	"osc": {[]requirement{
		{[][]string{{"OSC_ACCESS_KEY", "OSC_SECRET_KEY"}}, "the keys to build with"},
		{[][]string{{"OSC_REGION"}}, "the region that this host is in"},
	}, environment{builder: "osc-chroot", currency: "EUR", dial: dialOSC}},
}

// environmentOf returns a cloud's environment, or an error with all missing variables.
// Cleaning up needs no budget tag and no source.
func environmentOf(name string, cleaning bool) (environment, error) {
	c, ok := clouds[name]
	if !ok {
		return environment{}, fmt.Errorf("the cloud %q is none of %q", name, slices.Sorted(maps.Keys(clouds)))
	}
	needs, refusal := slices.Concat(c.needs, []requirement{budget, source}), "builds on a real cloud cost money, and begin only if these variables are set:\n"
	if cleaning {
		needs, refusal = c.needs, "a run is cleaned up only if these variables are set:\n"
	}
	var lines []string
	for _, n := range needs {
		if m := n.missing(); m != "" {
			lines = append(lines, "  "+m)
		}
	}
	if lines != nil {
		return environment{}, errors.New(refusal + strings.Join(lines, "\n"))
	}
	e := c.environment
	e.region = os.Getenv(strings.ToUpper(name) + "_REGION")
	if cleaning {
		return e, nil
	}
	err := e.readBudget(os.Getenv("REAL_BUDGET_TAG"))
	return e, err
}

// readBudget parses the budget tag.
func (e *environment) readBudget(tag string) error {
	key, value, ok := strings.Cut(tag, "=")
	if !ok || key == "" || value == "" || key == runTag || strings.HasPrefix(strings.ToLower(key), "aws:") {
		return fmt.Errorf("REAL_BUDGET_TAG is %q, and must be a tag such as CostCenter=1234, whose key is not %s and not one of aws:…", tag, runTag)
	}
	e.budgetKey, e.budget = key, value
	return nil
}
