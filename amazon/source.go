package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Source finds the image to start from. It must be available, with a root device made of a
// snapshot.
func (c *Cloud) Source(ctx context.Context) (bake.Image, error) {
	found, err := c.findSource(ctx)
	if err != nil {
		return bake.Image{}, err
	}
	if err := c.usable(found); err != nil {
		return bake.Image{}, fmt.Errorf("source image %s cannot be used: %w", nameOf(found), err)
	}
	if since := aws.ToString(found.DeprecationTime); c.past(since) {
		c.logf("warning: source image %s is deprecated since %s", nameOf(found), since)
	}
	c.warnOfBilling(found)
	image := imageOf(found)
	image.Details = &found
	if root, said := find(c.config.AMIBlockDeviceMappings, c.planOf(bake.Facts{Source: &image}).rootName()); said {
		// Register would say so, after all the work.
		return image, root.checkRoot()
	}
	return image, nil
}

// rootName is the name of the root device of the image to be, empty if it is
// not known yet.
func (c imagePlan) rootName() string {
	source := c.source
	if c.config.RootDeviceName != "" || source == nil {
		return c.config.RootDeviceName
	}
	return aws.ToString(source.RootDeviceName)
}

// findSource finds the one image by its id, by the filter, or by both.
func (c *Cloud) findSource(ctx context.Context) (types.Image, error) {
	if !c.config.SourceAMIFilter.isSet() {
		return c.sourceByID(ctx)
	}
	images, err := c.search(ctx)
	if err != nil {
		return types.Image{}, err
	}
	if len(images) == 0 {
		return types.Image{}, fmt.Errorf("no image in region %s fulfils %s%s", c.client.Region(), c.sought(), c.client.allowedImagesHint(ctx))
	}
	return c.choose(images)
}

func (c *Cloud) sourceByID(ctx context.Context) (types.Image, error) {
	found, err := c.client.image(ctx, c.config.SourceAMI)
	if errors.Is(err, bake.ErrNotFound) {
		return types.Image{}, fmt.Errorf("source %w in region %s, or not shared with this account%s", err, c.client.Region(), c.client.allowedImagesHint(ctx))
	}
	if err != nil {
		return types.Image{}, fmt.Errorf("source_ami: %w", err)
	}
	return found, nil
}

// isSet reports whether there is a search.
func (f SourceFilterConfig) isSet() bool {
	return len(f.Filters) > 0 || len(f.Owners) > 0 || f.MostRecent
}

// search lists the images that fulfil the filter. An image that is named by its ID may also be
// deprecated, as its user knows it.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html
func (c *Cloud) search(ctx context.Context) ([]types.Image, error) {
	f := c.config.SourceAMIFilter
	in := &ec2.DescribeImagesInput{Owners: f.Owners, Filters: f.filters()}
	if f.IncludeDeprecated || c.config.SourceAMI != "" {
		in.IncludeDeprecated = aws.Bool(true)
	}
	if c.config.SourceAMI != "" {
		in.ImageIds = []string{c.config.SourceAMI}
	}
	images, err := c.client.images(ctx, in)
	if hasCode(err, codeImageNotFound, codeImageUnavailable) {
		return nil, fmt.Errorf("source image %s: %w in region %s, or not shared with this account%s",
			c.config.SourceAMI, bake.ErrNotFound, c.client.Region(), c.client.allowedImagesHint(ctx))
	}
	if err != nil {
		return nil, c.client.cannot(err, "search for the image of source_ami_filter")
	}
	return images, nil
}

func (f SourceFilterConfig) filters() []types.Filter {
	var all []types.Filter
	for _, name := range slices.Sorted(maps.Keys(f.Filters)) {
		all = append(all, filter(name, f.Filters[name]))
	}
	return all
}

// choose returns the image that the search means, if it is of one of the owners.
func (c *Cloud) choose(images []types.Image) (types.Image, error) {
	search := c.config.SourceAMIFilter.search(c.config.SourceAMI != "")
	search.Option = c.sought()
	chosen, err := builder.Choose(search, images, imageOf)
	if err == nil && !c.config.SourceAMIFilter.owns(chosen, "") {
		err = c.foreignOwner(chosen)
	}
	return chosen, err
}

// sought is the search in words.
func (c *Cloud) sought() string {
	f := c.config.SourceAMIFilter
	var words []string
	for _, name := range slices.Sorted(maps.Keys(f.Filters)) {
		words = append(words, fmt.Sprintf("%s = %q", name, f.Filters[name]))
	}
	if len(f.Owners) > 0 {
		words = append(words, "owners "+strings.Join(f.Owners, ", "))
	}
	if c.config.SourceAMI != "" {
		words = append(words, "source_ami "+c.config.SourceAMI)
	}
	return "source_ami_filter (" + strings.Join(words, ", ") + ")"
}

// owns reports whether the image names one of the owners as its owner: a cloud that ignores the
// owners of the request must not choose for the user. "self" can be checked only when the account
// is known.
func (f SourceFilterConfig) owns(image types.Image, account string) bool {
	return len(f.Owners) == 0 || slices.ContainsFunc(f.Owners, func(owner string) bool {
		if owner == "self" {
			return account == "" || aws.ToString(image.OwnerId) == account
		}
		return owner == aws.ToString(image.OwnerId) || owner == aws.ToString(image.ImageOwnerAlias)
	})
}

func (c *Cloud) foreignOwner(image types.Image) error {
	return fmt.Errorf("source image %s belongs to %q (%q), and to none of the owners of source_ami_filter: %s",
		nameOf(image), aws.ToString(image.OwnerId), aws.ToString(image.ImageOwnerAlias), strings.Join(c.config.SourceAMIFilter.Owners, ", "))
}

// usable returns the reason why an image cannot be the source; nil if it can.
func (c *Cloud) usable(image types.Image) error {
	root, hasRoot := rootDevice(image)
	wanted, found := c.config.AMIVirtualizationType, string(image.VirtualizationType)
	switch {
	case image.RootDeviceType != types.DeviceTypeEbs:
		return fmt.Errorf("its root device is on %q, and must be on ebs", image.RootDeviceType)
	case image.State != types.ImageStateAvailable:
		return fmt.Errorf("its state is %q, and must be available", image.State)
	case !hasRoot || aws.ToString(root.SnapshotId) == "":
		return fmt.Errorf("its root device %q has no snapshot", aws.ToString(image.RootDeviceName))
	default:
		return c.converts(found, wanted)
	}
}

// converts returns an error if the image cannot become one of the wanted virtualization
// type. A paravirtual image becomes an hvm one if pre_mount_commands give its disk a
// partition table and a boot loader; that they do is the user's word.
func (c *Cloud) converts(found, wanted string) error {
	const hvm, paravirtual = string(types.VirtualizationTypeHvm), string(types.VirtualizationTypeParavirtual)
	switch {
	case wanted == "" || found == "" || wanted == found:
		return nil
	case found == paravirtual && wanted == hvm && len(c.config.PreMountCommands) > 0:
		c.logf("The source image is paravirtual, and the AMI will be hvm: it boots only if pre_mount_commands make a partition table, and a boot loader is installed")
		return nil
	case found == paravirtual && wanted == hvm:
		return fmt.Errorf("its virtualization is %q, and ami_virtualization_type is %q: that takes pre_mount_commands which make a partition table",
			found, wanted)
	default:
		return fmt.Errorf("its virtualization is %q, and ami_virtualization_type is %q", found, wanted)
	}
}

// fits returns the reason why the image cannot be built on this host; nil if there is none. It is asked when
// both are known.
func (c imagePlan) fits() error {
	source, account := c.source, c.host.Account
	host := cmp.Or(types.ArchitectureValues(c.host.Architecture), hostArchitecture())
	if source == nil {
		return nil
	}
	if c.config.SourceAMIFilter.isSet() && !c.config.SourceAMIFilter.owns(*source, account) {
		return c.foreignOwner(*source)
	}
	found := source.Architecture
	if found == "" || string(found) == c.config.AMIArchitecture || runs(host, found) {
		return nil
	}
	return fmt.Errorf("source image %s is of architecture %s, and this host is %s, which cannot run its programs: "+
		"if it can, by an emulator, say so with ami_architecture = %q", nameOf(*source), found, host, found)
}

// runs reports whether a host runs programs of an architecture.
func runs(host, image types.ArchitectureValues) bool {
	return host == image || (host == types.ArchitectureValuesX8664 && image == types.ArchitectureValuesI386)
}

// moment reads a time as EC2 writes it; the zero time if it is none.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// past reports whether a time as EC2 writes it has come; one that is none has not.
func (c *Cloud) past(text string) bool {
	t := moment(text)
	return !t.IsZero() && !t.After(c.now())
}

// nameOf returns the ID and the name of an image, for messages.
func nameOf(image types.Image) string {
	return fmt.Sprintf("%s (%s)", aws.ToString(image.ImageId), aws.ToString(image.Name))
}
