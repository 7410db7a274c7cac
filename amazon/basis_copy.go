package amazon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// copyTag is the key of the tag of a copy of a source image that stays for later builds. Its value is
// copyValue.
const copyTag = "packer-chroot-copy-of"

// copyValue identifies the copies of an image that have an encryption. If the account changes its
// default key, copies with the former one are not used any more.
func copyValue(image bake.ImageID, s sealing) string {
	if !s.encrypted {
		return fmt.Sprintf("%s unencrypted", image)
	}
	return fmt.Sprintf("%s %s", image, cmp.Or(s.key, s.name, "default key"))
}

// copies are copies of a source image that exist already.
type copies struct {
	// ready is the root volume of an available copy, and image is the copy; nil if there is none.
	ready *types.EbsBlockDevice
	image bake.ImageID
	// pending is a copy that is being made.
	pending bake.ImageID
}

// sourceCopies looks for copies of the source image that earlier builds have kept. The oldest one is
// chosen, so that all builds choose the same.
func (c *Cloud) sourceCopies(ctx context.Context, facts bake.Facts, s sealing) (copies, error) {
	value := copyValue(facts.Source.ID, s)
	images, err := c.client.ownImages(ctx, filter("tag:"+copyTag, value))
	if err != nil {
		return copies{}, c.client.cannot(err, "look for copies of %s", facts.Source.ID)
	}
	slices.SortFunc(images, func(a, b types.Image) int {
		return cmp.Or(strings.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate)), strings.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId)))
	})
	var found copies
	for _, image := range images {
		if !isCopyOf(image, *facts.Source, value) {
			continue
		}
		root, ok := rootDevice(image)
		switch imageState(image.State) {
		case bake.ImageAvailable:
			if found.ready == nil && ok && aws.ToString(root.SnapshotId) != "" && aws.ToBool(root.Encrypted) == s.encrypted {
				found.ready, found.image = &root, bake.ImageID(aws.ToString(image.ImageId))
			}
		case bake.ImagePending:
			found.pending = cmp.Or(found.pending, bake.ImageID(aws.ToString(image.ImageId)))
		case bake.ImageFailed:
		}
	}
	return found, nil
}

// isCopyOf reports whether an image is a copy of the source, as far as EC2 describes that.
func isCopyOf(image types.Image, source bake.Image, value string) bool {
	of := aws.ToString(image.SourceImageId)
	root, ok := rootDevice(image)
	sameSize := !ok || root.VolumeSize == nil || number(root.VolumeSize) == source.Root.SizeGiB
	return tagsOf(image.Tags)[copyTag] == value && (of == "" || of == string(source.ID)) && sameSize
}
