package amazon

import (
	"fmt"
	"regexp"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// localZone matches the name of a Local Zone, such as us-west-2-lax-1a.
// Source: https://docs.aws.amazon.com/local-zones/latest/ug/available-local-zones.html
var localZone = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+-[a-z]{3}-[0-9]+[a-z]$`)

// logOutpost logs where the data are stored if the host is on an Outpost: EC2 creates snapshots in
// the Region unless local ones are requested, and only an image of the Region can be used
// everywhere.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/snapshots-outposts.html
func (c *Cloud) logOutpost(host bake.Host) {
	if host.Placement != "" {
		c.logf("the host is on %s: the root volume is created there, and the snapshot in region %s", host.Placement, host.Region)
	}
}

// withTypeHint adds to a refused volume a hint on types that Local Zones and Outposts often lack.
// Source: github.com/kubernetes-sigs/aws-ebs-csi-driver issue 662.
func (c *Cloud) withTypeHint(spec bake.VolumeSpec, err error) error {
	outpost := spec.Placement
	if !hasCode(err, "UnknownVolumeType", codeInvalidValue, codeUnsupported) || outpost == "" && !localZone.MatchString(spec.Zone) {
		return err
	}
	where := "Local Zone " + spec.Zone
	if outpost != "" {
		where = "Outpost " + outpost
	}
	return fmt.Errorf(`%w (%s may not have volumes of type %q: if so, set root_volume_type = "gp2")`, err, where, spec.Type)
}
