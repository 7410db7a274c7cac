package state_test

import (
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestZonesOfRegions(t *testing.T) {
	for _, r := range state.DefaultRegions() {
		if len(r.Zones) < 3 || r.Zones[0] != r.Name+"a" {
			t.Errorf("%s has the zones %v", r.Name, r.Zones)
		}
	}
	for region, want := range map[string][]string{
		"us-east-1":    {"us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1e", "us-east-1f"},
		"ca-central-1": {"ca-central-1a", "ca-central-1b", "ca-central-1d"},
		"mars-1":       {"mars-1a", "mars-1b", "mars-1c"},
	} {
		if got := state.NewRegion(region).Zones; !slices.Equal(got, want) {
			t.Errorf("%s has the zones %v, want %v", region, got, want)
		}
	}
}

// TestVolumeInEveryZone checks that volumes can be created in the further zones.
func TestVolumeInEveryZone(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	there := state.Caller{Account: mine.Account, Region: "us-east-1"}
	if _, err := c.CreateVolume(there, state.VolumeRequest{Zone: "us-east-1f", SizeGiB: 1}); err != nil {
		t.Error(err)
	}
	_, err := c.CreateVolume(there, state.VolumeRequest{Zone: "us-east-1g", SizeGiB: 1})
	wantRefusal(t, err, state.NotFound, "zone")
}
