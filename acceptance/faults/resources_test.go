package faults

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// outcome is a fault of a resource: the result that the cloud gives to any call of an action.
type outcome struct {
	name string
	// act is EC2's name of the action.
	act  string
	rule map[string]any
	// says is a regular expression for the error; if it is empty, the build must succeed.
	says string
	// stuck means that cleanup fails until the test frees the resource. The build must report it, and the next build or
	// reap must remove it.
	stuck bool
}

var (
	ends  = map[string]any{"outcome": "error"}
	never = map[string]any{"outcome": "never"}
	full  = map[string]any{"outcome": "disk-full", "times": 20}
	late  = map[string]any{"stale": map[string]any{"reads": 3}}
	blind = map[string]any{"stale": map[string]any{"for": "1h"}}
)

var outcomes = []outcome{
	{name: "volume ends in error", act: "CreateVolume", rule: ends, says: `wait for volume vol-\w+: it is in the state error`},
	{name: "volume is never ready", act: "CreateVolume", rule: never, says: `gave up on volume vol-\w+ after .* still creating`},
	{name: "no room for the volume", act: "CreateVolume", rule: full, says: "cannot create a volume"},
	{name: "attaching never ends", act: "AttachVolume", rule: never, says: `gave up on vol-\w+ to be attached as /dev/\w+ after .* still attaching`},
	{name: "no device appears", act: "AttachVolume", rule: map[string]any{"outcome": "no-device"}, says: `vol-\w+.* as /dev/(sd|xvd)\w+`},
	{name: "detaching never ends", act: "DetachVolume", rule: never, says: `gave up on vol-\w+ to be detached from i-\w+ after .* still detaching`, stuck: true},
	{name: "snapshot ends in error", act: "CreateSnapshot", rule: ends, says: `wait for snapshot snap-\w+: its state is error`},
	{name: "snapshot is never complete", act: "CreateSnapshot", rule: never, says: `gave up on snapshot snap-\w+ after .* still pending`},
	{name: "no room for the snapshot", act: "CreateSnapshot", rule: full, says: `cannot create a snapshot of (volume )?vol-`},
	{name: "image fails", act: "RegisterImage", rule: ends, says: `wait for image ami-\w+: its state is failed`},
	{name: "image is never available", act: "RegisterImage", rule: never, says: `gave up on image ami-\w+ after .* still pending`},

	{name: "new volume is not seen for a while", act: "CreateVolume", rule: late},
	{name: "attachment is not seen for a while", act: "AttachVolume", rule: late},
	{name: "new snapshot is not seen for a while", act: "CreateSnapshot", rule: late},
	{name: "new image is not seen for a while", act: "RegisterImage", rule: late},
	{name: "detaching is not seen for a while", act: "DetachVolume", rule: late},
	{name: "deleted volume is listed for a while", act: "DeleteVolume", rule: late},
	{name: "new volume is never seen", act: "CreateVolume", rule: blind, says: `volume vol-\w+`},
	{name: "new snapshot is never seen", act: "CreateSnapshot", rule: blind, says: `snapshot snap-\w+`},
	{name: "new image is never seen", act: "RegisterImage", rule: blind, says: `image ami-\w+`},
}

// blockOutcomes are those of operations of direct builds.
var blockOutcomes = []outcome{
	{name: "snapshot ends in error", act: "CompleteSnapshot", rule: ends, says: `cannot complete snap-\w+: its status is error`},
	{name: "snapshot is never complete", act: "CompleteSnapshot", rule: never, says: `gave up on snapshot snap-\w+ after .* still pending`},
	{name: "no room for the snapshot", act: "StartSnapshot", rule: full, says: "cannot start a snapshot"},
	{name: "no room for a block", act: "PutSnapshotBlock", rule: map[string]any{"outcome": "disk-full", "times": 1000}, says: `cannot write block \d+ of snap-`},
	{name: "new snapshot is not seen for a while", act: "StartSnapshot", rule: late},
	{name: "new snapshot cannot be written for a while", act: "StartSnapshot", rule: map[string]any{"stale": map[string]any{"for": "4s", "changes": 3}}},
	{name: "new snapshot is never seen", act: "StartSnapshot", rule: blind, says: `snap-\w+`},
}

// outcomesOf returns the outcomes of the operations of a flavor's builds.
func outcomesOf(f harness.Flavor) []outcome {
	if !f.Direct {
		return outcomes
	}
	all := slices.DeleteFunc(slices.Clone(outcomes), func(o outcome) bool { return o.act != "RegisterImage" })
	return append(slices.Clone(blockOutcomes), all...)
}

// options returns the options of the template. A disk of another test's cloud may have the name that a build
// waits for, so a disk that is recognized only by its name gets a name that no other test uses.
func (o outcome) options(f harness.Flavor) map[string]any {
	if o.rule["outcome"] != "no-device" {
		return nil
	}
	return map[string]any{"device_path": map[string]string{"ami": "/dev/xvdaz", "omi": "/dev/xvdbz"}[f.Prefix]}
}

// TestFaultOfOneResource makes each operation of a build end with an error, never end, or appear late.
func TestFaultOfOneResource(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		counts := newCount("A resource fails, never becomes ready, or is shown late: " + f.String())
		outcomes := outcomesOf(f)
		for _, o := range outcomes {
			counts.order = append(counts.order, o.name)
		}
		sideBySide(t, f, half(f, outcomes), func(o outcome) string { return o.name }, func(b *harness.Box, before []string, o outcome) {
			rule := fault{rule: o.rule}.with(map[string]any{"action": f.Action(o.act)})
			if rule["times"] == nil {
				rule["times"] = 1
			}
			out, ok, _ := buildWithFaults(b, b.Template(f.Basic(o.options(f)), harness.Shell("true")), rule)
			for range 3 { // reads that are late are over then
				b.Inventory()
			}
			if o.stuck {
				freed(b, f, out, o.says)
			} else if ok != (o.says == "") {
				b.Errorf("the build succeeded: %t", ok)
			}
			counts.add(o.name, map[bool]int{true: succeeded, false: failedClearly}[ok])
			checkOutcome(b, before, out, ok, o.says)
		})
		counts.print(t)
	})
}

// freed checks that the resource that could not be removed is reported, frees it, and reaps.
func freed(b *harness.Box, f harness.Flavor, out, says string) {
	b.Helper()
	if !regexp.MustCompile(says).MatchString(out) {
		b.Errorf("it does not say %q", says)
	}
	if !strings.Contains(out, "will be tried again by the next build on this host") {
		b.Error("it does not say that something is left")
	}
	detachByForce(b)
	if all, status := b.Reap(f); status != 0 || len(all) != 1 || all[0].Fate != "removed" {
		b.Errorf("reap: status %d, %+v", status, all)
	}
}

// detachByForce detaches volumes whose detachment does not end.
func detachByForce(b *harness.Box) {
	b.Helper()
	ctx, c := context.Background(), b.Client()
	volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	b.Must(err)
	for _, v := range volumes.Volumes {
		for _, a := range v.Attachments {
			if a.State == "detaching" || a.State == "busy" {
				_, err := c.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: v.VolumeId, Force: aws.Bool(true)})
				b.Must(err)
			}
		}
	}
}

// TestFaultPersists refuses every call of an action until the build has ended. Then reap must remove the remaining
// resources.
func TestFaultPersists(t *testing.T) {
	harness.Each(t, harness.Covered(), func(t *testing.T, f harness.Flavor) {
		var actions []point
		for _, p := range points(harness.New(t, f.Host()...), f) {
			if p.nth == 0 {
				actions = append(actions, p)
			}
		}
		forGood := []fault{callFaults[1]}
		if harness.All {
			forGood = append(forGood, callFaults[0], callFaults[3], callFaults[5], callFaults[6], callFaults[10])
		}
		counts := newCount("An action goes wrong from the first call to the end of the build: "+f.String(), namesOf(forGood)...)
		sideBySide(t, f, allPairs(actions, forGood), faulted.String, func(b *harness.Box, before []string, s faulted) {
			rule := s.with(s.here())
			rule["times"] = 1000
			b.Control(http.MethodPost, "faults", rule, nil)
			raw, err := b.Packer("build", "-color=false", b.Template(f.Basic(nil), harness.Shell("true")))
			b.Control(http.MethodDelete, "faults", nil, nil)
			counts.add(s.name, map[bool]int{true: succeeded, false: failedClearly}[err == nil])
			reapedAll(b, f)
			out := harness.Flat(raw)
			since := "throttled since"
			if s.readsBlocks() {
				since = "attempts"
			}
			if err != nil && s.name == "throttled" && s.dialect != "imds" && !strings.Contains(out, since) {
				b.Errorf("the error does not say %q:\n%s", since, out)
			}
			checkOutcome(b, before, out, err == nil, names[s.action])
		})
		counts.print(t)
	})
}

// reapedAll reaps, and expects success.
func reapedAll(b *harness.Box, f harness.Flavor) {
	b.Helper()
	all, status := b.Reap(f)
	if status != 0 {
		b.Errorf("reap: status %d, %+v", status, all)
	}
	if all, status := b.Reap(f); status != 0 || len(all) != 0 {
		b.Errorf("reap, the second time: status %d, %+v", status, all)
	}
}
