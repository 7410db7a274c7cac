package amazon

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// partitions are the parts of AWS that have accounts and ARNs of their own, by the prefix of
// their regions. All other regions are in the partition aws.
// Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
var partitions = []struct{ prefix, name string }{
	{"cn-", "aws-cn"},
	{"us-gov-", "aws-us-gov"},
	{"us-iso-", "aws-iso"},
	{"us-isob-", "aws-iso-b"},
	{"us-isof-", "aws-iso-f"},
	{"eu-isoe-", "aws-iso-e"},
	{"eusc-", "aws-eusc"},
}

// ordinary is the partition of all regions that no other partition has.
const ordinary = "aws"

// partitionOf returns the partition of a region, as ARNs name it.
func partitionOf(region string) string {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.prefix) {
			return p.name
		}
	}
	return ordinary
}

// checkPartition returns an error if an ARN that was given as option is of another
// partition than the region. An empty region is not known yet: see checkKey.
func checkPartition(option, arn, region string) error {
	fields := strings.SplitN(arn, ":", 3)
	want := partitionOf(region)
	if region == "" || len(fields) < 3 || fields[0] != "arn" || fields[1] == want {
		return nil
	}
	return fmt.Errorf("%s is %q, but must begin with arn:%s: in region %s", option, arn, want, region)
}

// checkPartitions refuses ARNs and regions of another partition than the build's region, home:
// nothing can be used or copied across partitions. An empty region is not known yet: see checkKey.
func (c *Config) checkPartitions(home string) []error {
	errs := []error{checkPartition("assume_role: role_arn", c.AssumeRole.RoleARN, home)}
	for _, k := range c.homeKeys() {
		errs = append(errs, checkPartition(k.option, k.key, home))
	}
	each := func(option string, arns []string) {
		for i, arn := range arns {
			errs = append(errs, checkPartition(fmt.Sprintf("%s[%d]", option, i), arn, home))
		}
	}
	each("assume_role: policy_arns", c.AssumeRole.PolicyARNs)
	each("ami_org_arns", c.AMIOrgARNs)
	each("ami_ou_arns", c.AMIOUARNs)
	for _, region := range slices.Sorted(maps.Keys(c.RegionKMSKeyIDs)) {
		errs = append(errs, checkPartition(fmt.Sprintf("region_kms_key_ids[%q]", region), c.RegionKMSKeyIDs[region], region))
	}
	for _, region := range c.regions() {
		if home != "" && partitionOf(region) != partitionOf(home) {
			errs = append(errs, fmt.Errorf("ami_regions has %s, which is in the partition %s, but region %s is in the partition %s: no AMI can be copied there",
				region, partitionOf(region), home, partitionOf(home)))
		}
	}
	return errs
}
