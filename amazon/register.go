package amazon

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// Register asks for an image. When it is available, its billing is compared with its source's.
func (c *Cloud) Register(ctx context.Context, spec bake.ImageSpec) (bake.ImageID, error) {
	source, err := c.sourceOf(ctx, spec)
	if err != nil {
		return "", err
	}
	id, err := c.register(ctx, spec, source)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unbilled = unbilled{image: string(id), source: source}
	return id, err
}

// register asks for an image. EC2 takes no client token for it, but no second
// image of a name either: when the name is in use, the image that has it may be
// the one that an earlier call made.
func (c *Cloud) register(ctx context.Context, spec bake.ImageSpec, source *types.Image) (bake.ImageID, error) {
	firmware, err := c.firmwareOf(ctx, spec, source)
	if err != nil {
		return "", fmt.Errorf("cannot register image %q: %w", spec.Name, err)
	}
	in, err := c.registration(spec, source, firmware)
	if err != nil {
		return "", fmt.Errorf("cannot register image %q: %w", spec.Name, err)
	}
	out, err := c.client.ec2.RegisterImage(ctx, in)
	if hasCode(err, codeNameDuplicate) {
		return c.registered(ctx, spec, err)
	}
	what := fmt.Sprintf("register image %q of %s", spec.Name, spec.Snapshot)
	if err != nil {
		return "", unsettledIf(c.isUnknown(ctx, spec.Snapshot, err), c.client.cannot(err, "%s", what))
	}
	return newID[bake.ImageID](c, out.ImageId, what)
}

// isUnknown reports whether RegisterImage was refused because EC2 does not know yet that the
// image's own snapshot is complete.
func (c *Cloud) isUnknown(ctx context.Context, id bake.SnapshotID, err error) bool {
	switch {
	case namesOther(err, "snap-", string(id)):
		return false
	case hasCode(err, codeSnapshotNotFound):
		return c.hasSnapshot(ctx, id)
	}
	return hasCode(err, codeIncorrectState) && c.isCompleted(ctx, id)
}

// registered returns the image that an earlier call made of the same specification. If
// another image has the name, or none is shown to have it, the error wraps
// bake.ErrNameTaken.
func (c *Cloud) registered(ctx context.Context, spec bake.ImageSpec, refusal error) (bake.ImageID, error) {
	images, err := c.named(ctx, spec.Name)
	if err != nil {
		return "", err
	}
	for _, image := range images {
		root, ok := rootDevice(image)
		if ok && aws.ToString(root.SnapshotId) == string(spec.Snapshot) && image.ImageId != nil {
			return bake.ImageID(*image.ImageId), nil
		}
	}
	return "", nameTaken(images, c.client.cannot(refusal, "register image %q of %s", spec.Name, spec.Snapshot))
}

// nameTaken marks a refusal because of an image's name. As long as no image is shown to have
// the name, the reason may pass.
func nameTaken(by []types.Image, refusal error) error {
	return unsettledIf(len(by) == 0, bake.NameTaken(refusal))
}

// sourceOf returns all that EC2 says of the image the build started from, or
// nil from scratch.
func (c *Cloud) sourceOf(ctx context.Context, spec bake.ImageSpec) (*types.Image, error) {
	if spec.Source == nil {
		return nil, nil
	}
	if known := detailsOf(spec.Source); known != nil {
		return known, nil
	}
	found, err := c.client.image(ctx, string(spec.Source.ID))
	if err != nil {
		return nil, fmt.Errorf("cannot tell what image %q inherits: %w", spec.Name, err)
	}
	return &found, nil
}

// firmwareOf returns the firmware that Publication has decided on. Without its decisions they
// are made now.
func (c *Cloud) firmwareOf(ctx context.Context, spec bake.ImageSpec, source *types.Image) (firmware, error) {
	if decided, ok := spec.Details.(*decisions); ok {
		return decided.firmware, nil
	}
	return imagePlan{Cloud: c, source: source}.settleFirmware(ctx)
}

// registration returns the request for an image: the user's options, or else the source's
// attributes.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
func (c *Cloud) registration(spec bake.ImageSpec, source *types.Image, boots firmware) (*ec2.RegisterImageInput, error) {
	in := &ec2.RegisterImageInput{
		Name:               aws.String(spec.Name),
		Description:        optional(spec.Description),
		Architecture:       types.ArchitectureValues(c.config.AMIArchitecture),
		VirtualizationType: optional(c.config.AMIVirtualizationType),
		RootDeviceName:     optional(c.config.RootDeviceName),
		EnaSupport:         c.config.ENASupport.ToBoolPointer(),
		BootMode:           boots.mode,
		UefiData:           boots.data,
		TpmSupport:         boots.tpm,
		ImdsSupport:        types.ImdsSupportValues(c.config.IMDSSupport),
		TagSpecifications:  tagging(types.ResourceTypeImage, spec.Tags),
	}
	if c.config.SRIOVSupport {
		in.SriovNetSupport = aws.String("simple")
	}
	if source != nil {
		inherit(in, source)
	} else {
		in.Architecture = cmp.Or(in.Architecture, hostArchitecture())
	}
	root := aws.ToString(in.RootDeviceName)
	if root == "" {
		return nil, fmt.Errorf("no root device name is known: set root_device_name")
	}
	blocks, err := c.blocks(spec, source, root)
	in.BlockDeviceMappings = blocks
	return in, err
}

// hostArchitecture returns EC2's name for the architecture of this program: a chroot built from
// scratch can hold nothing else.
func hostArchitecture() types.ArchitectureValues {
	switch runtime.GOARCH {
	case "amd64":
		return types.ArchitectureValuesX8664
	case "386":
		return types.ArchitectureValuesI386
	default:
		return types.ArchitectureValues(runtime.GOARCH)
	}
}

// inherit copies the source's attributes that the user does not set.
func inherit(in *ec2.RegisterImageInput, source *types.Image) {
	in.Architecture = cmp.Or(in.Architecture, source.Architecture)
	in.ImdsSupport = cmp.Or(in.ImdsSupport, source.ImdsSupport)
	in.VirtualizationType = optional(cmp.Or(aws.ToString(in.VirtualizationType), string(source.VirtualizationType)))
	in.RootDeviceName = optional(cmp.Or(aws.ToString(in.RootDeviceName), aws.ToString(source.RootDeviceName)))
	if aws.ToString(in.VirtualizationType) == string(types.VirtualizationTypeParavirtual) {
		in.KernelId = source.KernelId
		in.RamdiskId = source.RamdiskId
		return
	}
	// EC2 takes these for hvm only.
	in.EnaSupport = cmp.Or(in.EnaSupport, source.EnaSupport)
	in.SriovNetSupport = cmp.Or(in.SriovNetSupport, source.SriovNetSupport)
}

// blocks are the block devices of the image to be: the root, made of the
// snapshot; the source's others, as far as the user does not replace them; and
// the user's others.
func (c *Cloud) blocks(spec bake.ImageSpec, source *types.Image, root string) ([]types.BlockDeviceMapping, error) {
	rootMapping, err := c.rootMapping(spec, source, root)
	if err != nil {
		return nil, err
	}
	all := []types.BlockDeviceMapping{rootMapping.block()}
	for _, m := range c.otherMappings(source, root) {
		all = append(all, m.block())
	}
	return all, nil
}

// otherMappings returns the block devices beside the root. If the image is encrypted
// anywhere, its blank volumes are too: a copy encrypts snapshots only.
func (c *Cloud) otherMappings(source *types.Image, root string) []BlockDevice {
	all := c.mergedMappings(source, root)
	if !c.encryptsAnywhere() {
		return all
	}
	for i, m := range all {
		if m.SnapshotID == "" && m.VirtualName == "" && !m.NoDevice {
			all[i].Encrypted = true
		}
	}
	return all
}

// mergedMappings returns the source's block devices beside the root, with the user's
// over them.
func (c *Cloud) mergedMappings(source *types.Image, root string) []BlockDevice {
	var all []BlockDevice
	for _, m := range mappingsOf(source) {
		_, replaced := find(c.config.AMIBlockDeviceMappings, m.DeviceName)
		if !replaced && !sameDevice(m.DeviceName, aws.ToString(source.RootDeviceName)) && !sameDevice(m.DeviceName, root) {
			all = append(all, m)
		}
	}
	for _, m := range c.config.AMIBlockDeviceMappings {
		if !sameDevice(m.DeviceName, root) {
			all = append(all, m)
		}
	}
	return all
}

// rootMapping is the root device: the user's words, else bake's, else the
// source's; the content is always the snapshot.
func (c *Cloud) rootMapping(spec bake.ImageSpec, source *types.Image, name string) (BlockDevice, error) {
	var old BlockDevice
	if source != nil {
		old, _ = find(mappingsOf(source), aws.ToString(source.RootDeviceName))
	}
	m, said := find(c.config.AMIBlockDeviceMappings, name)
	if err := m.checkRoot(); err != nil {
		return BlockDevice{}, err
	}
	if !said {
		// From scratch too the volume should go with its instance.
		m.DeleteOnTermination = source == nil || old.DeleteOnTermination
	}
	m.BlockDevice = m.Root(name, spec, c.VolumeType)
	m.VolumeType = cmp.Or(m.VolumeType, old.VolumeType)
	if m.VolumeType == spec.VolumeType && c.VolumeType(m.VolumeType).TakesThroughput {
		m.Throughput = cmp.Or(m.Throughput, spec.Throughput)
	}
	return withPerformanceOf(old, m), nil
}

// checkRoot returns the reason why a mapping cannot be the root device's; nil if there is none.
func (m BlockDevice) checkRoot() error {
	if m.NoDevice || m.VirtualName != "" || m.SnapshotID != "" {
		return fmt.Errorf("block device mapping %s is the root device's: it takes no no_device, virtual_name or snapshot_id", m.DeviceName)
	}
	return nil
}

// withPerformanceOf keeps the IOPS and the throughput of another volume, where
// this one is of the same type and nothing else is said.
func withPerformanceOf(old, m BlockDevice) BlockDevice {
	if old.VolumeType != m.VolumeType {
		return m
	}
	if volumeLimits[m.VolumeType].minIOPS > 0 {
		m.IOPS = cmp.Or(m.IOPS, old.IOPS)
	}
	if volumeLimits[m.VolumeType].minThroughput > 0 {
		m.Throughput = cmp.Or(m.Throughput, old.Throughput)
	}
	return m
}

// mappingsOf are an image's block devices in the user's terms.
func mappingsOf(image *types.Image) []BlockDevice {
	if image == nil {
		return nil
	}
	var all []BlockDevice
	for _, b := range image.BlockDeviceMappings {
		m := BlockDevice{BlockDevice: builder.BlockDevice{
			DeviceName:  aws.ToString(b.DeviceName),
			VirtualName: aws.ToString(b.VirtualName),
			NoDevice:    b.NoDevice != nil,
		}}
		if b.Ebs != nil {
			m = m.withVolume(*b.Ebs)
		}
		all = append(all, m)
	}
	return all
}

// withVolume adds EC2's description of the mapping's volume.
func (m BlockDevice) withVolume(e types.EbsBlockDevice) BlockDevice {
	m.SnapshotID = aws.ToString(e.SnapshotId)
	m.VolumeType = string(e.VolumeType)
	m.VolumeSize = number(e.VolumeSize)
	m.DeleteOnTermination = aws.ToBool(e.DeleteOnTermination)
	if volumeLimits[m.VolumeType].minIOPS > 0 {
		m.IOPS = number(e.Iops)
	}
	if volumeLimits[m.VolumeType].minThroughput > 0 {
		m.Throughput = number(e.Throughput)
	}
	m.Encrypted = aws.ToBool(e.Encrypted)
	m.KMSKeyID = aws.ToString(e.KmsKeyId)
	return m
}

// block is the mapping as EC2 wants it.
func (m BlockDevice) block() types.BlockDeviceMapping {
	b := types.BlockDeviceMapping{DeviceName: aws.String(m.DeviceName)}
	switch {
	case m.NoDevice:
		b.NoDevice = aws.String("") // an empty text suppresses
	case m.VirtualName != "":
		b.VirtualName = aws.String(m.VirtualName)
	default:
		b.Ebs = m.volume()
	}
	return b
}

// volume is the mapping's volume as RegisterImage wants it: of a snapshot it
// takes the encryption that it has, and refuses another word; it takes no key.
func (m BlockDevice) volume() *types.EbsBlockDevice {
	e := &types.EbsBlockDevice{
		SnapshotId:          optional(m.SnapshotID),
		VolumeType:          types.VolumeType(m.VolumeType),
		VolumeSize:          count(m.VolumeSize),
		Iops:                count(m.IOPS),
		Throughput:          count(m.Throughput),
		DeleteOnTermination: aws.Bool(m.DeleteOnTermination),
	}
	if m.Encrypted && m.SnapshotID == "" {
		e.Encrypted = aws.Bool(true)
	}
	return e
}

// find finds the mapping of a device name.
func find(mappings []BlockDevice, device string) (BlockDevice, bool) {
	for _, m := range mappings {
		if sameDevice(m.DeviceName, device) {
			return m, true
		}
	}
	return BlockDevice{}, false
}

// sameDevice compares device names: xvda is /dev/xvda.
func sameDevice(a, b string) bool {
	return strings.TrimPrefix(a, "/dev/") == strings.TrimPrefix(b, "/dev/")
}
