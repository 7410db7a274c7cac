package osc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func (c *Cloud) checkRegion(ctx context.Context) error {
	got, err := readRegions.call(ctx, c.client, api.ReadRegionsRequest{})
	if err != nil {
		return fmt.Errorf("cannot find out whether there is a region %s (skip_region_validation does without): %w", c.opts.Region, err)
	}
	var names []string
	for _, r := range value(got.Regions) {
		if name := value(r.RegionName); name != "" {
			names = append(names, name)
		}
	}
	if !slices.Contains(names, c.opts.Region) {
		return fmt.Errorf("region is %s, which the API at %s does not have: it has %s (skip_region_validation does not ask)",
			c.opts.Region, c.client.access.Endpoint, strings.Join(names, ", "))
	}
	return nil
}

// In is the account's cloud in another region.
func (c *Cloud) In(region string) bake.Cloud {
	if region == c.opts.Region {
		return c
	}
	o := c.opts
	o.Client, o.Region = c.client.in(region), region
	return NewCloud(o)
}
