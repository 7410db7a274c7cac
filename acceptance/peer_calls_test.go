package acceptance

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// tally counts the calls that a build makes, by dialect and action.
type tally map[string]int

// tallied counts calls of the cloud's APIs, those of the instance's metadata left
// out: they cost nothing, and are limited by nobody.
func tallied(calls []call) tally {
	counts := tally{}
	for _, c := range calls {
		if c.Dialect != "imds" {
			counts[c.Dialect+":"+c.Action]++
		}
	}
	return counts
}

// total is the number of all calls.
func (t tally) total() (n int) {
	for _, count := range t {
		n += count
	}
	return n
}

// reads is how many of the calls change nothing.
func (t tally) reads() (n int) {
	for name, count := range t {
		if strings.Contains(name, ":Describe") {
			n += count
		}
	}
	return n
}

// beside is a table of two tallies, which docs/benchmarks.md has.
func (t tally) beside(peer tally) string {
	all := maps.Clone(peer)
	maps.Copy(all, t)
	var s strings.Builder
	s.WriteString("| Call | ours | public plugin |\n|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&s, "| `%s` | %d | %d |\n", name, t[name], peer[name])
	}
	fmt.Fprintf(&s, "| all | %d | %d |\n", t.total(), peer.total())
	return s.String()
}

// comparable are templates that both plugins build.
var comparable = []struct {
	name    string
	options o
	// before are templates that are built before calls are counted.
	twice bool
}{
	{name: "basic"},
	{name: "published", options: o{
		"tags": o{"a": "b"}, "ami_users": []string{"222222222222"}, "snapshot_users": []string{"222222222222"},
		"ami_regions": []string{"us-east-1"}, "force_deregister": true,
	}, twice: true},
}

// counted builds, and answers the calls that were made.
func (b *box) counted(options o, twice bool) tally {
	b.t.Helper()
	template := b.template(b.forPeer(options), shell("true"))
	if twice {
		b.build(template)
	}
	b.calls()
	b.build(template)
	return tallied(b.calls())
}

// TestPeerCalls: a build makes no more calls of the cloud than the public plugin's of
// the same template, and no more that only read.
func TestPeerCalls(t *testing.T) {
	for _, c := range comparable {
		t.Run(c.name, func(t *testing.T) {
			theirs := newPeerBox(t).counted(c.options, c.twice)
			ours := newBox(t).counted(c.options, c.twice)
			t.Logf("calls of the cloud in one build, %s:\n%s", c.name, ours.beside(theirs))
			if ours.total() > theirs.total() || ours.reads() > theirs.reads() {
				t.Errorf("%d calls, %d of them reads; the public plugin makes %d and %d", ours.total(), ours.reads(), theirs.total(), theirs.reads())
			}
		})
	}
}
