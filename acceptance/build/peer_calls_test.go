package build

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// tally counts the calls that a build makes, by dialect and action.
type tally map[string]int

// tallied counts the calls of the cloud's APIs. Requests to the metadata service are not counted: they are free and not
// limited.
func tallied(calls []harness.Call) tally {
	counts := tally{}
	for _, c := range calls {
		if c.Dialect != "imds" {
			counts[c.Dialect+":"+c.Action]++
		}
	}
	return counts
}

// total returns the number of all calls.
func (t tally) total() (n int) {
	for _, count := range t {
		n += count
	}
	return n
}

// beside returns a table of two tallies for docs/benchmarks.md.
func (t tally) beside(peer tally) string {
	all := maps.Clone(peer)
	maps.Copy(all, t)
	var s strings.Builder
	s.WriteString("| Call | amazon-chroot | public plugin |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&s, "| `%s` | %d | %d |\n", name, t[name], peer[name])
	}
	fmt.Fprintf(&s, "| total | %d | %d |\n", t.total(), peer.total())
	return s.String()
}

// bothBuild are templates that both plugins build.
var bothBuild = []struct {
	name    string
	options harness.O
	// twice means that it is built once before calls are counted.
	twice bool
}{
	{name: "basic"},
	{name: "published", options: harness.O{
		"tags": harness.O{"a": "b"}, "ami_users": []string{"222222222222"}, "snapshot_users": []string{"222222222222"},
		"ami_regions": []string{"us-east-1"}, "force_deregister": true,
	}, twice: true},
}

// counted builds and returns the calls by action.
func counted(b *harness.Box, options harness.O, twice bool) tally {
	b.Helper()
	template := b.Template(forPeer(b, options), harness.Shell("true"))
	if twice {
		b.Build(template)
	}
	b.Calls()
	b.Build(template)
	return tallied(b.Calls())
}

// TestPeerCalls checks that a build makes no more calls than the public plugin with the same
// template.
func TestPeerCalls(t *testing.T) {
	for _, c := range bothBuild {
		t.Run(c.name, func(t *testing.T) {
			theirs := counted(newPeerBox(t), c.options, c.twice)
			ours := counted(harness.New(t), c.options, c.twice)
			t.Logf("calls of the cloud in one build, %s:\n%s", c.name, ours.beside(theirs))
			if ours.total() > theirs.total() {
				t.Errorf("%d calls, and the public plugin makes %d", ours.total(), theirs.total())
			}
		})
	}
}

// TestCallsPerBuild checks the exact calls of a build if the cloud is ready at once.
func TestCallsPerBuild(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	basic := tally{
		"ec2:AttachVolume": 1, "ec2:CreateSnapshot": 1, "ec2:CreateVolume": 1, "ec2:DeleteVolume": 1, "ec2:DescribeImages": 3,
		"ec2:DescribeInstances": 1, "ec2:DescribeSnapshots": 1, "ec2:DescribeVolumes": 3, "ec2:DetachVolume": 1, "ec2:RegisterImage": 1,
	}
	// the copy is looked up, requested and waited for; a replaced image is read in each region and confirmed gone; the
	// other region reports its encryption default
	published := maps.Clone(basic)
	maps.Copy(published, tally{
		"ec2:CopyImage": 1, "ec2:DeregisterImage": 2, "ec2:DescribeImageAttribute": 2, "ec2:DescribeImages": 7,
		"ec2:GetEbsEncryptionByDefault": 1, "ec2:ModifyImageAttribute": 2, "ec2:ModifySnapshotAttribute": 2,
	})
	for i, want := range []tally{basic, published} {
		c := bothBuild[i]
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(want, counted(harness.New(t), c.options, c.twice)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// BenchmarkCalls counts the calls of a basic build on a cloud with a tenth of AWS's delays. With PEER_PLUGIN it also
// measures the public plugin, which polls every second here and every ten seconds on AWS.
func BenchmarkCalls(b *testing.B) {
	for _, plugin := range []struct {
		name  string
		start func(testing.TB, ...string) *harness.Box
		env   []string
	}{
		{"amazon-chroot", harness.New, nil},
		{"public-plugin", newPeerBox, []string{"AWS_POLL_DELAY_SECONDS=1"}},
	} {
		b.Run(plugin.name, func(b *testing.B) {
			box := plugin.start(b, "--profile", "aws:0.1")
			box.Env = append(box.Env, plugin.env...)
			calls, n := 0, 0
			for b.Loop() {
				calls += counted(box, harness.O{"ami_name": fmt.Sprint("counted ", n)}, false).total()
				n++
			}
			b.ReportMetric(float64(calls)/float64(n), "calls/build")
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(n), "ms/build")
		})
	}
}
