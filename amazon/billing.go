package amazon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// EC2 knows the costs of an image beside its instances (RHEL, SUSE, Windows, SQL Server)
// by a billing code, which RegisterImage takes no parameter for: it derives it from the data that
// is on record for the snapshot, if that is there. Product codes of the Marketplace are
// copied from the snapshots.
//
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
// and https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-billing-info.html

// The words for an image that costs nothing beside its instances.
const (
	plainDetails = "Linux/UNIX"
	plainUsage   = "RunInstances"
)

// billing is EC2's description of the billing of an image's instances; the zero value if there is
// none.
type billing struct{ details, usage string }

func billingOf(i types.Image) billing {
	return billing{aws.ToString(i.PlatformDetails), aws.ToString(i.UsageOperation)}
}

// plain reports whether nothing is known to be billed beside the instances.
func (b billing) plain() bool {
	return (b.details == "" || b.details == plainDetails) && (b.usage == "" || b.usage == plainUsage)
}

func (b billing) String() string {
	switch {
	case b == billing{}:
		return "no billing that EC2 shows"
	case b.details == "":
		return b.usage
	case b.usage == "":
		return b.details
	}
	return fmt.Sprintf("%s (%s)", b.details, b.usage)
}

// productCodesOf are an image's product codes.
func productCodesOf(i types.Image) []string {
	var codes []string
	for _, c := range i.ProductCodes {
		codes = append(codes, aws.ToString(c.ProductCodeId))
	}
	return codes
}

// warnOfBilling warns, before anything is created, of billing that the image may not inherit from
// its source.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
func (c *Cloud) warnOfBilling(source types.Image) {
	if b := billingOf(source); !b.plain() {
		c.logf("warning: instances of source image %s are billed as %s: RegisterImage bills those of the new image so only where EC2 "+
			"has that on record for the snapshot. The build compares them when it is registered; if they differ, the image must be made from an instance", nameOf(source), b)
	}
	if codes := productCodesOf(source); len(codes) > 0 {
		c.logf("warning: source image %s has the product codes %s: the new image has them only if the snapshots have, "+
			"and EC2 attaches a volume with a code of the Marketplace to stopped instances only, not to this one", nameOf(source), strings.Join(codes, " and "))
	}
}

// unbilled is a registered image that is still to be compared with its source's billing.
type unbilled struct {
	image  string
	source *types.Image
}

// compareBilling warns if an available image lacks a part of its source's billing.
func (c *Cloud) compareBilling(made types.Image) {
	c.mu.Lock()
	source, due := c.unbilled.source, c.unbilled.image != "" && c.unbilled.image == aws.ToString(made.ImageId)
	if due {
		c.unbilled = unbilled{}
	}
	c.mu.Unlock()
	if source == nil || !due {
		return
	}
	was, is := billingOf(*source), billingOf(made)
	if was != (billing{}) && was != is && (!was.plain() || !is.plain()) {
		c.logf("warning: instances of image %s are billed as %s, but those of its source as %s. AWS says to discard an image whose billing is not right, "+
			"and to make it from an instance: package updates that ask for the billing code may be refused, and Reserved Instances for the one do not apply to the other",
			aws.ToString(made.ImageId), is, was)
	}
	have := append(productCodesOf(made), c.config.AMIProductCodes...)
	lost := slices.DeleteFunc(productCodesOf(*source), func(code string) bool { return slices.Contains(have, code) })
	if len(lost) > 0 {
		c.logf("warning: image %s lacks product codes of its source, %s; ami_product_codes gives those that are the account's own",
			aws.ToString(made.ImageId), strings.Join(lost, " and "))
	}
}
