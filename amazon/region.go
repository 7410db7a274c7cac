package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// family is one build's Clouds, by region.
type family struct {
	mu      sync.Mutex
	members map[string]*Cloud
}

// In is EC2 of another region, for the same build.
func (c *Cloud) In(region string) bake.Cloud {
	home := c.client.Region()
	if region == home {
		return c
	}
	c.family.mu.Lock()
	defer c.family.mu.Unlock()
	c.family.members[home] = c
	there, ok := c.family.members[region]
	if !ok {
		there = NewCloud(c.client.elsewhere(region), c.config, c.log)
		there.family = c.family
		c.family.members[region] = there
	}
	return there
}

// elsewhere is the same way to EC2 of another region. A custom endpoint that does
// not name the region serves the client's own alone.
func (c *Client) elsewhere(region string) *Client {
	there := *c
	there.ec2 = c.in(region)
	there.config.Region, there.regionFrom = region, "ami_regions has"
	if !strings.Contains(c.endpoint, regionPlace) {
		there.endpoint = ""
	}
	return &there
}

// otherRegions returns the regions that the image is copied to, without the build's own, each
// once. EC2 knows them, and the account may use them.
func (c *Cloud) otherRegions(ctx context.Context) ([]string, error) {
	others := slices.DeleteFunc(c.config.regions(), func(region string) bool { return region == c.client.Region() })
	if len(others) == 0 || c.config.SkipRegionValidation {
		return others, nil
	}
	known, err := c.client.regions(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, region := range others {
		errs = append(errs, checkRegion(region, known))
	}
	return others, errors.Join(errs...)
}

// regions returns the opt-in status of all regions of the partition, by name.
func (c *Client) regions(ctx context.Context) (map[string]string, error) {
	out, err := c.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{AllRegions: aws.Bool(true)})
	if err != nil {
		return nil, c.cannot(err, "tell whether the regions of ami_regions exist, which skip_region_validation leaves out")
	}
	known := map[string]string{}
	for _, r := range out.Regions {
		known[aws.ToString(r.RegionName)] = aws.ToString(r.OptInStatus)
	}
	return known, nil
}

// notOptedIn is the status of a region that the account has yet to enable.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Region.html
const notOptedIn = "not-opted-in"

func checkRegion(region string, known map[string]string) error {
	status, ok := known[region]
	switch {
	case !ok:
		return fmt.Errorf("ami_regions has %q, which is no region that EC2 knows: skip_region_validation copies there all the same", region)
	case status == notOptedIn:
		return fmt.Errorf("ami_regions has %s, which the account has not enabled", region)
	default:
		return nil
	}
}
