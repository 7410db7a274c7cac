package amazon

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
			tc := newTestCloud(t, state.Instant())
			there := state.Caller{Account: account.Account, Region: "us-east-1"}
			mapped := []state.Mapping{{Device: "/dev/xvda", Volume: &state.MappedVolume{SnapshotID: blankSnapshot(t, tc.state), SizeGiB: 1, Type: "gp2"}}}
			if _, err := tc.state.CreateImage(account, state.ImageRequest{
				Name: "golden", IDDigits: 17, Mappings: mapped,
				Attributes: state.ImageAttributes{Architecture: "x86_64", Virtualization: "hvm", RootDevice: "/dev/xvda"},
			}); err != nil {
				t.Fatal(err)
			}
			left := func() (all []string) {
				for _, region := range []state.Caller{account, there} {
					for _, v := range tc.state.Volumes(region) {
						if v.State != state.VolumeDeleting {
							all = append(all, v.ID)
						}
					}
					for _, s := range tc.state.Snapshots(region) {
						all = append(all, s.ID)
					}
					for _, i := range tc.state.Images(region) {
						all = append(all, fmt.Sprint(i.Name, " in ", region.Region))
					}
				}
				slices.Sort(all)
				return all
			}
			before := left()
			cloud := tc.worldwide(t, Config{SourceConfig: SourceConfig{SourceAMI: tc.source}, CopyConfig: CopyConfig{AMIRegions: []string{there.Region}}})
			stateDir := filepath.Join(testdir.New(t), "state")
			killed := cloudtest.Killed(t, cloud, stateDir, "golden", at)
			file := filepath.Join("testdata", "journals", string(at)+".journal")
			recorded, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			cloudtest.Reaped(t, tc.worldwide(t, Config{}), stateDir, string(recorded), killed)
			if after := left(); !slices.Equal(before, after) {
				t.Errorf("there were\n%q, and are\n%q", before, after)
			}
		})
	}
}
