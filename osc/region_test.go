package osc

import (
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestRegionIsFound checks that the region is taken from the option, the environment, the
// profile, the endpoint, the metadata or the default, in this order, and that its origin is
// known.
func TestRegionIsFound(t *testing.T) {
	keyed := func(change func(*Access)) Access {
		a := Access{AccessKey: "AK", SecretKey: "SK"}
		change(&a)
		return a
	}
	file := configuration(t, profiles)
	nowhere := "http://" + closedPort(t)
	for name, test := range map[string]struct {
		in         Access
		env        map[string]string
		zone       string // the region in the metadata; empty if they do not respond
		want, from string
	}{
		"the option":            {keyed(func(a *Access) { a.Region = "us-east-2" }), map[string]string{"OSC_REGION": "us-west-1"}, "eu-west-2a", "us-east-2", ""},
		"the environment":       {Access{}, map[string]string{"OSC_REGION": "us-west-1", "OSC_CONFIG_FILE": file}, "eu-west-2a", "us-west-1", "OSC_REGION"},
		"the default profile":   {Access{}, map[string]string{"OSC_CONFIG_FILE": file}, "us-east-2a", "eu-west-2", `profile "default"`},
		"a profile":             {Access{Profile: "old"}, map[string]string{"OSC_CONFIG_FILE": file}, "eu-west-2a", "us-east-2", `profile "old"`},
		"a profile without one": {keyed(func(a *Access) { a.Profile = "half" }), map[string]string{"OSC_CONFIG_FILE": configuration(t, `{"half":{}}`)}, "us-east-2b", "us-east-2", "metadata"},
		"the endpoint":          {keyed(func(a *Access) { a.Endpoint = "api.us-east-2.outscale.com" }), nil, "eu-west-2a", "us-east-2", "api.us-east-2.outscale.com"},
		"the metadata":          {keyed(func(*Access) {}), nil, "cloudgouv-eu-west-1a", "cloudgouv-eu-west-1", "metadata service"},
		"metadata of no zone":   {keyed(func(*Access) {}), nil, "../evil", "eu-west-2", `the zone is "../evil"`},
		"no metadata":           {keyed(func(*Access) {}), nil, "", "eu-west-2", "the default: set region, or OSC_REGION"},
		"metadata not asked":    {keyed(func(a *Access) { a.VMID = "i-12345678" }), nil, "us-east-2a", "eu-west-2", "vm_id is set"},
	} {
		t.Run(name, func(t *testing.T) {
			environment(t, test.env)
			test.in.MetadataEndpoint = nowhere
			if test.zone != "" {
				test.in.MetadataEndpoint = newFake(t, map[string][]reply{"availability-zone": {{200, test.zone}}}).server.URL
			}
			got, err := test.in.resolve()
			if err != nil {
				t.Fatal(err)
			}
			got = got.settle(t.Context())
			if got.Region != test.want || !strings.Contains(got.regionFrom, test.from) || (test.from == "") != (got.regionFrom == "") {
				t.Errorf("region %q, from %q; want %q, from %q", got.Region, got.regionFrom, test.want, test.from)
			}
			if want := outscaleEndpoint(test.want); got.Endpoint != want {
				t.Errorf("endpoint %q, want %q", got.Endpoint, want)
			}
		})
	}
}

// TestSnapshotsOfMappings checks that unusable snapshots of block device mappings are reported
// before a volume is created.
func TestSnapshotsOfMappings(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Config{})
	_, good := madeSnapshot(t, c, "b")
	for name, test := range map[string]struct {
		mapping BlockDevice
		want    string
	}{
		"there":     {BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvdc", SnapshotID: string(good)}}, ""},
		"not there": {BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvdc", SnapshotID: "snap-00000000"}}, "device xvdc: snapshot_id is snap-00000000, which does not exist"},
		"too large": {BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvdc", SnapshotID: string(good), VolumeSize: 1}}, "volume_size is 1 GiB"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.cloud(t, Config{ImageConfig: ImageConfig{OMIBlockDeviceMappings: []BlockDevice{test.mapping}}}).Publication(t.Context(), bake.Facts{})
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestOptionsOfThePublicBuilder checks that an option of outscale-chroot that this builder
// lacks is refused with its replacement.
func TestOptionsOfThePublicBuilder(t *testing.T) {
	var rows []buildertest.Refusal
	for option, value := range map[string]any{
		"mfa_code": "1", "token": "t", "skip_metadata_api_check": true, "snapshot_account_ids": []any{"a"},
		"omi_groups": []any{"all"}, "omi_product_codes": []any{"1"}, "omi_regions": []any{"eu-west-2"},
	} {
		rows = append(rows, buildertest.Refusal{
			Name: option, Give: with(t, map[string]any{option: value}),
			Want: []string{option + " is an option of outscale-chroot only: ", "docs/moving-from-outscale-chroot.md"},
		})
	}
	buildertest.Refuses(t, Plugin, rows)
}
