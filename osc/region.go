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
		return fmt.Errorf("cannot find out whether there is a region %s (skip_region_validation does without): %w", c.client.Region(), err)
	}
	var names []string
	for _, r := range value(got.Regions) {
		if name := value(r.RegionName); name != "" {
			names = append(names, name)
		}
	}
	if !slices.Contains(names, c.client.Region()) {
		return fmt.Errorf("region is %s, which the API at %s does not have: it has %s (skip_region_validation does not ask)",
			c.client.Region(), c.client.access.Endpoint, strings.Join(names, ", "))
	}
	return nil
}

// In is the account's cloud in another region.
func (c *Cloud) In(region string) bake.Cloud {
	if region == c.client.Region() {
		return c
	}
	return NewCloud(c.client.in(region), c.config, c.log)
}
