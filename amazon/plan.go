package amazon

import (
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// imagePlan is the image to be, as far as it is known before anything is created.
type imagePlan struct {
	*Cloud
	host bake.Host
	// source is the image that the build starts from; nil from scratch.
	source *types.Image
	// passing is bake.Publication.Passing.
	passing bool
}

// planOf returns the plan of the image that a host builds from a source.
func (c *Cloud) planOf(facts bake.Facts) imagePlan {
	return imagePlan{Cloud: c, host: facts.Host, source: detailsOf(facts.Source)}
}

// detailsOf returns all that EC2 said of a source image when Source read it; nil if there is
// no source image, or if its details are not known.
func detailsOf(source *bake.Image) *types.Image {
	if source == nil {
		return nil
	}
	details, _ := source.Details.(*types.Image)
	return details
}

// decisions is the type of bake.Publication.Details: the decisions of Publication for CreateVolume
// and Register.
type decisions struct {
	firmware firmware
	// shared is the publication of an image that is to be shared.
	shared bake.Publication
	// root is the root volume of such an image, if it is known to be encrypted.
	root *encryptedVolume
}

// decisionsIn returns the decisions in the details of a specification, none if there are none.
func decisionsIn(details any) decisions {
	if d, ok := details.(*decisions); ok {
		return *d
	}
	return decisions{}
}
