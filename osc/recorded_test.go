package osc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestRecordedJournals reaps killed builds by journals that an older version has written.
// They were recorded before acts were types.
func TestRecordedJournals(t *testing.T) {
	for _, at := range []cloudtest.Moment{cloudtest.Provisioning, cloudtest.Publishing} {
		t.Run(string(at), func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			o.image(t, mine, "golden", state.ImageAttributes{})
			left := func() (all []string) {
				for _, v := range o.state.Volumes(mine) {
					if v.State != state.VolumeDeleting {
						all = append(all, v.ID)
					}
				}
				for _, s := range o.state.Snapshots(mine) {
					all = append(all, s.ID)
				}
				for _, i := range o.state.Images(mine) {
					all = append(all, fmt.Sprint("image ", i.Name))
				}
				slices.Sort(all)
				return all
			}
			before := left()
			stateDir := filepath.Join(testdir.New(t), "state")
			killed := cloudtest.Killed(t, o.cloud(t, Config{}), stateDir, "golden", at)
			file := filepath.Join("testdata", "journals", string(at)+".journal")
			recorded, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cloudtest.Reaped(t, o.cloud(t, Config{}), stateDir, string(recorded), killed)
			if after := left(); !slices.Equal(before, after) {
				t.Errorf("there were\n%q, and are\n%q", before, after)
			}
		})
	}
}
