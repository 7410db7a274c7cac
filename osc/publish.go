package osc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// everybody is the group of all accounts.
const everybody = "all"

// Publication tells that the image stays where it was made: the API copies within
// a region only. The region must be one that the API has.
func (c *Cloud) Publication(ctx context.Context, facts bake.Facts) (bake.Publication, error) {
	if err := errors.Join(c.checkDevices(facts), c.checkSpeed(facts)); err != nil {
		return bake.Publication{}, err
	}
	if c.opt.SkipRegionValidation {
		return bake.Publication{}, nil
	}
	return bake.Publication{}, c.checkRegion(ctx)
}

// checkDevices fails when machines of the image would have more volumes than a VM
// can have.
func (c *Cloud) checkDevices(facts bake.Facts) error {
	var inherited []api.BlockDeviceMappingImage
	c.mu.Lock()
	if c.source != nil && facts.Source != nil && c.source.ImageId == string(facts.Source.ID) {
		inherited = dataMappings(*c.source)
	}
	c.mu.Unlock()
	if n := 1 + len(c.dataMappings(inherited)); n > maxVolumes {
		return fmt.Errorf("omi_block_device_mappings and the source's devices are %d, its root included, but a VM can have %d volumes",
			n, maxVolumes)
	}
	return nil
}

// checkSpeed fails when IOPS are wanted of a root volume that takes none.
func (c *Cloud) checkSpeed(facts bake.Facts) error {
	rootType := c.opt.RootVolumeType
	if rootType == "" && facts.Source != nil {
		rootType = facts.Source.Root.Type
	}
	if c.opt.RootVolumeIOPS != 0 && rootType != io1 {
		return fmt.Errorf("root_volume_iops is %d, but the root volume is %s: only io1 takes it", c.opt.RootVolumeIOPS, rootType)
	}
	return nil
}

func (c *Cloud) checkRegion(ctx context.Context) error {
	got, err := readRegions.call(ctx, c.client, api.ReadRegionsRequest{})
	if err != nil {
		return fmt.Errorf("cannot find out whether there is a region %s (skip_region_validation does without): %w", c.opt.Region, err)
	}
	var names []string
	for _, r := range value(got.Regions) {
		names = append(names, value(r.RegionName))
	}
	if !slices.Contains(names, c.opt.Region) {
		return fmt.Errorf("region is %s, which the API at %s does not have: it has %s (skip_region_validation does not ask)",
			c.opt.Region, c.client.access.Endpoint, strings.Join(names, ", "))
	}
	return nil
}

// In is the account's cloud in another region.
func (c *Cloud) In(region string) bake.Cloud {
	if region == c.opt.Region {
		return c
	}
	o := c.opt
	o.Client, o.Region = c.client.in(region), region
	return NewCloud(o)
}

// Copy asks for a copy of an image of this region: the API has no others. Neither
// does it take a client token, so before it is asked a second time the copy is
// looked for. The copy's snapshots get their tags as far as they are there already.
func (c *Cloud) Copy(ctx context.Context, spec bake.CopySpec) (bake.ImageID, error) {
	if spec.Encrypted || spec.KMSKeyID != "" {
		return "", fmt.Errorf("cannot copy image %s: Outscale does not encrypt images", spec.Source)
	}
	req := api.CreateImageRequest{
		SourceImageId:    optional(string(spec.Source)),
		SourceRegionName: optional(spec.SourceRegion),
		ImageName:        optional(spec.Name),
		Description:      optional(spec.Description),
	}
	key := imageKey{string(spec.Source), spec.Name}
	made, err := c.createImage(ctx, req, c.begin(key), func(ctx context.Context) (*api.Image, error) { return c.copyOf(ctx, key) })
	if err != nil {
		return "", fmt.Errorf("cannot copy image %s as %q: %w", spec.Source, spec.Name, err)
	}
	c.mu.Lock()
	c.copied[string(spec.Source)] = made.ImageId
	c.mu.Unlock()
	if err := c.tag(ctx, made.ImageId, spec.ImageTags); err != nil {
		return "", err
	}
	for _, id := range imageSnapshots(made) {
		if err := c.tag(ctx, string(id), spec.SnapshotTags); err != nil {
			return "", err
		}
	}
	return bake.ImageID(made.ImageId), nil
}

// copyOf is the copy that an earlier try made, nil if there is none.
func (c *Cloud) copyOf(ctx context.Context, key imageKey) (*api.Image, error) {
	found, err := c.FindCopies(ctx, bake.ImageID(key.of), key.name)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	img, err := c.readImage(ctx, string(found[0]))
	return &img, err
}

// FindCopies lists the account's images of the name, the image itself aside: the
// API does not tell what an image is a copy of.
func (c *Cloud) FindCopies(ctx context.Context, source bake.ImageID, name string) ([]bake.ImageID, error) {
	named, err := c.Named(ctx, name)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(named, func(id bake.ImageID) bool { return id == source }), nil
}

// Publish says who may launch the image, and who may use the snapshots made for
// it. Each has its own options: to share an image is not to share its snapshots.
func (c *Cloud) Publish(ctx context.Context, spec bake.PublishSpec) error {
	if err := c.share(ctx, spec.Image, permissions(c.opt.AccountIDs, c.opt.GlobalPermission)); err != nil {
		return err
	}
	wanted := permissions(c.opt.SnapshotUsers, slices.Contains(c.opt.SnapshotGroups, everybody))
	for _, id := range spec.Snapshots {
		if wanted == nil {
			return nil
		}
		_, err := updateSnapshot.call(ctx, c.client, api.UpdateSnapshotRequest{
			SnapshotId:                string(id),
			PermissionsToCreateVolume: api.PermissionsOnResourceCreation{Additions: wanted},
		})
		if err != nil {
			return fmt.Errorf("cannot share snapshot %s: %w", id, err)
		}
	}
	return nil
}

// permissions are those of some accounts, or of everybody; nil if of nobody.
func permissions(accounts []string, global bool) *api.PermissionsOnResource {
	if len(accounts) == 0 && !global {
		return nil
	}
	return &api.PermissionsOnResource{AccountIds: optionalSlice(accounts), GlobalPermission: optional(global)}
}

// share gives permissions to launch an image.
func (c *Cloud) share(ctx context.Context, id bake.ImageID, with *api.PermissionsOnResource) error {
	if with == nil {
		return nil
	}
	_, err := updateImage.call(ctx, c.client, api.UpdateImageRequest{
		ImageId: string(id), PermissionsToLaunch: &api.PermissionsOnResourceCreation{Additions: with},
	})
	if err != nil {
		return fmt.Errorf("cannot share image %s: %w", id, err)
	}
	return nil
}

// recorded is what Record writes down: how the image is registered, and what is
// given to it afterwards.
type recorded struct {
	Request     api.CreateImageRequest     `json:"request"`
	Permissions *api.PermissionsOnResource `json:"permissions,omitempty"`
	Tags        map[string]string          `json:"tags,omitempty"`
}

// Record reads all that is needed to register an image again.
func (c *Cloud) Record(ctx context.Context, id bake.ImageID) (bake.Record, error) {
	found, err := c.readImage(ctx, string(id))
	if err != nil {
		return bake.Record{}, err
	}
	if err := c.replaceable(found); err != nil {
		return bake.Record{}, fmt.Errorf("image %s (%s) cannot be replaced: %w", id, value(found.ImageName), err)
	}
	data, err := json.Marshal(recorded{
		Request:     restoring(found),
		Permissions: shared(found),
		Tags:        tagMap(found.Tags),
	})
	if err != nil {
		return bake.Record{}, fmt.Errorf("cannot record image %s: %w", id, err)
	}
	return bake.Record{Image: id, Name: value(found.ImageName), Snapshots: imageSnapshots(found), Data: data}, nil
}

// replaceable tells why an image cannot be deregistered or registered again, if so.
func (c *Cloud) replaceable(i api.Image) error {
	root := rootMapping(i)
	switch {
	case i.AccountId != c.client.account:
		return fmt.Errorf("it belongs to account %s", i.AccountId)
	case i.State == api.ImageStatePending:
		return errors.New("it is pending")
	case i.State == api.ImageStateAvailable && (root == nil || len(snapshotsOf(*root)) == 0):
		return errors.New("its root device has no snapshot, so that it could not be registered again")
	case i.SecureBoot:
		return errors.New("it has secure boot, with which no image can be registered")
	}
	return nil
}

// restoring is the request that makes an image as it is.
func restoring(i api.Image) api.CreateImageRequest {
	device := rootDevice
	mappings := dataMappings(i)
	if root := rootMapping(i); root != nil {
		first := requestable(*root)
		first.DeviceName = &device
		mappings = append([]api.BlockDeviceMappingImage{first}, mappings...)
	}
	return api.CreateImageRequest{
		ImageName: i.ImageName, Description: optional(value(i.Description)), Architecture: optional(i.Architecture),
		RootDeviceName: &device, BlockDeviceMappings: &mappings, BootModes: optionalSlice(i.BootModes),
		ProductCodes: optionalSlice(value(i.ProductCodes)), TpmMandatory: i.TpmMandatory,
	}
}

// shared are the permissions that an image has, nil if none.
func shared(i api.Image) *api.PermissionsOnResource {
	have := value(i.PermissionsToLaunch)
	return permissions(value(have.AccountIds), value(have.GlobalPermission))
}

// Restore registers an image again. It looks first whether that was done before,
// by another process even.
func (c *Cloud) Restore(ctx context.Context, record bake.Record) (bake.ImageID, error) {
	var was recorded
	if err := json.Unmarshal(record.Data, &was); err != nil {
		return "", fmt.Errorf("the record of image %s (%s) cannot be read: %w", record.Image, record.Name, err)
	}
	if len(record.Snapshots) == 0 {
		return "", fmt.Errorf("the record of image %s (%s) has no snapshot to register it again from", record.Image, record.Name)
	}
	key := imageKey{string(record.Snapshots[0]), record.Name}
	made, err := c.createImage(ctx, was.Request, true, func(ctx context.Context) (*api.Image, error) { return c.registered(ctx, key) })
	if err != nil {
		return "", fmt.Errorf("cannot register image %q again: %w", record.Name, err)
	}
	id := bake.ImageID(made.ImageId)
	return id, errors.Join(c.share(ctx, id, was.Permissions), c.tag(ctx, made.ImageId, was.Tags))
}
