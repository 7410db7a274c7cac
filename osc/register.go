package osc

import (
	"context"
	"errors"
	"fmt"
	"slices"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// imageKey names the one image that a specification asks for.
type imageKey struct {
	// of is the snapshot, or the image that is copied.
	of   string
	name string
}

// Register asks for an image of the snapshot. CreateImage takes no client token,
// so before it is made a second time the image is looked for.
func (c *Cloud) Register(ctx context.Context, spec bake.ImageSpec) (bake.ImageID, error) {
	req, err := c.registration(ctx, spec)
	if err != nil {
		return "", fmt.Errorf("cannot register image %q: %w", spec.Name, err)
	}
	key := imageKey{string(spec.Snapshot), spec.Name}
	made, err := c.createImage(ctx, req, c.begun.Again(key), func(ctx context.Context) (*api.Image, error) { return c.registered(ctx, key) })
	if err != nil {
		return "", fmt.Errorf("cannot register image %q of snapshot %s: %w", spec.Name, spec.Snapshot, err)
	}
	return bake.ImageID(made.ImageId), nil
}

// createImage makes an image, unless an earlier try has made it, of this call or,
// if so, of one before. made looks for it.
func (c *Cloud) createImage(
	ctx context.Context, req api.CreateImageRequest, before bool, made func(context.Context) (*api.Image, error),
) (api.Image, error) {
	var img *api.Image
	find := func(ctx context.Context) (found bool, err error) {
		img, err = made(ctx)
		return img != nil, err
	}
	err := c.client.do(ctx, string(createImage), retry.CreateOnce(before, find, func(ctx context.Context) error {
		got, err := createImage.once(ctx, c.client, req)
		switch {
		case isRefusal(err, (*refusal).conflict):
			return c.whyNotCreated(ctx, value(req.ImageName), err)
		case isRefusal(err, (*refusal).notFound) && req.SourceImageId == nil:
			return unsettledIf(err, (*refusal).unsettled) // the image's own snapshot is new
		case err != nil:
			return err
		case got.Image == nil || got.Image.ImageId == "":
			return errors.New("CreateImage answers no image id")
		}
		img = got.Image
		return nil
	}))
	if err != nil {
		return api.Image{}, err
	}
	return *img, nil
}

// whyNotCreated searches for the image that is in conflict with a new one. An image of the same
// name is final, unless it is being deleted.
func (c *Cloud) whyNotCreated(ctx context.Context, name string, refused error) error {
	named, err := c.Named(ctx, name)
	switch {
	case err != nil:
		return errors.Join(refused, err)
	case len(named) > 0:
		return bake.NameTaken(fmt.Errorf("image %s has the name %q: %w", named[0], name, refused))
	}
	return unsettledIf(refused, (*refusal).conflict)
}

// registered looks for the image that an earlier CreateImage may have made.
func (c *Cloud) registered(ctx context.Context, key imageKey) (*api.Image, error) {
	all, err := c.imagesOf(ctx, bake.SnapshotID(key.of))
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if value(i.ImageName) == key.name {
			return &i, nil
		}
	}
	return nil, nil
}

// registration returns the request for an image: the build's volume, the user's options, and the
// attributes inherited from the source.
func (c *Cloud) registration(ctx context.Context, spec bake.ImageSpec) (api.CreateImageRequest, error) {
	root := rootDevice
	req := api.CreateImageRequest{
		ImageName:      optional(spec.Name),
		Description:    optional(spec.Description),
		RootDeviceName: &root,
	}
	var inherited []api.BlockDeviceMappingImage
	if spec.Source != nil {
		source, err := c.sourceImage(ctx, spec.Source)
		if err != nil {
			return req, err
		}
		if inherited, err = c.inherit(ctx, &req, source); err != nil {
			return req, err
		}
	}
	c.config.override(&req)
	if name := withDev(c.config.RootDeviceName); name != "" && name != rootDevice {
		c.logf("Outscale calls the root device of every image %s: root_device_name %s stands for it, in the mappings too",
			rootDevice, c.config.RootDeviceName)
	}
	mappings := append([]api.BlockDeviceMappingImage{c.rootMapping(spec)}, c.mergedMappings(inherited)...)
	req.BlockDeviceMappings = &mappings
	return req, nil
}

// inherit copies the boot attributes and the product codes of the source. It returns the source's
// devices except the root.
func (c *Cloud) inherit(ctx context.Context, req *api.CreateImageRequest, source api.Image) ([]api.BlockDeviceMappingImage, error) {
	req.Architecture = optional(source.Architecture)
	req.BootModes = optionalSlice(source.BootModes)
	req.ProductCodes = optionalSlice(value(source.ProductCodes))
	req.TpmMandatory = source.TpmMandatory
	devices := furtherMappings(source)
	c.mu.Lock()
	copied := c.copied[source.ImageId]
	c.mu.Unlock()
	if copied == "" || !slices.ContainsFunc(devices, func(m api.BlockDeviceMappingImage) bool { return len(mappingSnapshots(m)) > 0 }) {
		return devices, nil
	}
	// The source's snapshots cannot be used: those of its copy are the same.
	own, err := c.readImage(ctx, copied)
	return furtherMappings(own), err
}

// override replaces inherited attributes by the user's options.
func (c *Config) override(req *api.CreateImageRequest) {
	if len(c.OMIBootModes) > 0 {
		modes := make([]api.BootMode, 0, len(c.OMIBootModes))
		for _, mode := range c.OMIBootModes {
			modes = append(modes, api.BootMode(mode))
		}
		req.BootModes = &modes
	}
	if len(c.ProductCodes) > 0 {
		req.ProductCodes = &c.ProductCodes
	}
	if tpm := c.TPMMandatory.ToBoolPointer(); tpm != nil {
		req.TpmMandatory = tpm
	}
}

// sourceImage returns all fields of the source image, as Source read it.
func (c *Cloud) sourceImage(ctx context.Context, source *bake.Image) (api.Image, error) {
	if known := detailsOf(source); known != nil {
		return *known, nil
	}
	return c.readImage(ctx, string(source.ID))
}

func optionalSlice[T any](s []T) *[]T {
	if len(s) == 0 {
		return nil
	}
	return &s
}

// furtherMappings are an image's mappings without that of its root, as they can be
// asked for again: an image may tell the speed of a gp2 volume, which CreateImage
// takes of io1 only.
func furtherMappings(i api.Image) []api.BlockDeviceMappingImage {
	root := rootMapping(i)
	var data []api.BlockDeviceMappingImage
	for _, m := range value(i.BlockDeviceMappings) {
		if root != nil && value(m.DeviceName) == value(root.DeviceName) {
			continue
		}
		data = append(data, requestable(m))
	}
	return data
}

// requestable is an image's mapping as CreateImage takes it.
func requestable(m api.BlockDeviceMappingImage) api.BlockDeviceMappingImage {
	if m.Bsu != nil && value(m.Bsu.VolumeType) != io1 {
		bsu := *m.Bsu
		bsu.Iops = nil
		m.Bsu = &bsu
	}
	return m
}

// mergedMappings returns the inherited mappings with the user's over them, without that of the root.
func (c *Cloud) mergedMappings(inherited []api.BlockDeviceMappingImage) []api.BlockDeviceMappingImage {
	data := slices.Clone(inherited)
	for _, m := range c.config.OMIBlockDeviceMappings {
		name := c.config.imageDevice(m.DeviceName)
		if name == rootDevice {
			continue
		}
		data = slices.DeleteFunc(data, func(have api.BlockDeviceMappingImage) bool {
			return sameDevice(value(have.DeviceName), name)
		})
		if !m.NoDevice {
			data = append(data, m.request(name))
		}
	}
	return data
}

// rootMapping returns the mapping of the root device: the build's volume, and the user's words
// over it.
func (c *Cloud) rootMapping(spec bake.ImageSpec) api.BlockDeviceMappingImage {
	root := BlockDevice{DeleteOnVMDeletion: true}
	for _, m := range c.config.OMIBlockDeviceMappings {
		if c.config.imageDevice(m.DeviceName) == rootDevice {
			root = m
		}
	}
	root.BlockDevice = root.Root(rootDevice, spec, c.VolumeType)
	return root.request(rootDevice)
}

// request is the mapping in the API's form, under the API's name of the device.
func (m BlockDevice) request(device string) api.BlockDeviceMappingImage {
	req := api.BlockDeviceMappingImage{DeviceName: &device}
	if m.VirtualName != "" {
		req.VirtualDeviceName = &m.VirtualName
		return req
	}
	req.Bsu = &api.BsuToCreate{
		SnapshotId:         optional(m.SnapshotID),
		VolumeSize:         optional(int(m.VolumeSize)),
		VolumeType:         optional(api.VolumeType(m.VolumeType)),
		DeleteOnVmDeletion: &m.DeleteOnVMDeletion,
	}
	if m.VolumeType == io1 {
		req.Bsu.Iops = optional(int(m.IOPS))
	}
	return req
}
