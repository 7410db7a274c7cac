package osc

import (
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestConformance holds osc to the contract, on a cloud that takes no time and
// on one that takes some for everything.
func TestConformance(t *testing.T) {
	const some = 20 * time.Millisecond
	timings := map[string]state.Timing{
		"instant": state.Instant(),
		"slow": {
			VolumeCreate: some, VolumeDelete: some, Attach: some, Detach: some,
			Snapshot: some, ImageCreate: some, Copy: some,
		},
	}
	for name, timing := range timings {
		t.Run(name, func(t *testing.T) {
			worlds := map[bake.Cloud]*outscale{}
			cloudtest.Conform(t, cloudtest.Env{
				New: func(t *testing.T) bake.Cloud {
					o := newOutscale(t, timing)
					cloud := o.cloud(t, Config{})
					worlds[cloud] = o
					return cloud
				},
				Fail: func(_ *testing.T, cloud bake.Cloud, fault cloudtest.Fault) { worlds[cloud].wire.Fail(fault) },
				Late: func(cloud bake.Cloud) cloudtest.Late { return worlds[cloud].outcomes.Late },
			})
		})
	}
}
