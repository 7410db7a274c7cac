package amazon

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestConformance(t *testing.T) { conform(t, state.Instant()) }

// If operations take time, calls are repeated in the intermediate states.
func TestConformanceOfASlowCloud(t *testing.T) { conform(t, state.AWS(1.0/2000)) }

func conform(t *testing.T, timing state.Timing) {
	worlds := map[bake.Cloud]*testCloud{}
	cloudtest.Conform(t, cloudtest.Env{
		New: func(t *testing.T) bake.Cloud {
			tc := newTestCloud(t, timing)
			t.Setenv("AWS_ENDPOINT_URL", tc.url)
			cloud := NewCloud(dial(t, access("")), &Config{SourceConfig: SourceConfig{SourceAMI: tc.source}}, t.Logf)
			worlds[cloud] = tc
			return cloud
		},
		Elsewhere: "us-east-1",
		Fail:      func(_ *testing.T, cloud bake.Cloud, fault cloudtest.Fault) { worlds[cloud].wire.Fail(fault) },
		Late:      func(cloud bake.Cloud) cloudtest.Late { return worlds[cloud].outcomes.Late },
	})
}
