package osc

import (
	"errors"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestPublication checks that everything stays in the region, and that a region is required.
func TestPublication(t *testing.T) {
	o := newOutscale(t, state.Instant())
	elsewhere := func(skip bool) *Cloud {
		c := o.cloud(t, Config{Config: builder.Config{Sharing: builder.Sharing{SkipRegionValidation: skip}}})
		c.client.access.Region = "mars-1"
		return c
	}
	source, err := o.cloud(t, Config{}).Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		cloud *Cloud
		from  *bake.Image
		err   string
	}{
		"own region":                  {o.cloud(t, Config{}), &source, ""},
		"no such region":              {elsewhere(false), nil, "region is mars-1, which the API at " + o.server.URL},
		"no such region, but skipped": {elsewhere(true), nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := test.cloud.Publication(t.Context(), bake.Facts{Source: test.from})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) || len(got.Copies) > 0 || got.Passing {
				t.Errorf("%+v, %v; want %q", got, err, test.err)
			}
		})
	}
}

// TestTooManyVolumes checks that the user's devices and the source's are counted together.
func TestTooManyVolumes(t *testing.T) {
	o := newOutscale(t, state.Instant())
	var many []BlockDevice
	for _, name := range new(Cloud).DeviceNames()[2 : 2+maxVolumes-2] { // after sdb and sdc, which the source has
		many = append(many, BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: string(name), VolumeSize: 1}})
	}
	c := o.cloud(t, Config{ImageConfig: ImageConfig{OMIBlockDeviceMappings: many}})
	source, err := c.Source(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Publication(t.Context(), bake.Facts{Source: &source}); err == nil || !strings.Contains(err.Error(), "are 41") {
		t.Errorf("the error is %v", err)
	}
	if _, err := c.Publication(t.Context(), bake.Facts{}); err != nil {
		t.Errorf("without the source's: %v", err)
	}
	if err := errors.Join((&Config{ImageConfig: ImageConfig{OMIBlockDeviceMappings: append(many, many[:3]...)}}).checkRequest()...); err == nil || !strings.Contains(err.Error(), "41 devices") {
		t.Errorf("given alone: %v", err)
	}
}
