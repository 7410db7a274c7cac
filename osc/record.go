package osc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// record is the content of bake.Record: the request that registers the image, and the settings
// that are applied afterwards.
type record struct {
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
	if err := c.restorable(found); err != nil {
		return bake.Record{}, fmt.Errorf("image %s (%s) cannot be replaced: %w", id, value(found.ImageName), err)
	}
	data, err := json.Marshal(record{
		Request:     registrationOf(found),
		Permissions: shared(found),
		Tags:        tagsOf(found.Tags),
	})
	if err != nil {
		return bake.Record{}, fmt.Errorf("cannot record image %s: %w", id, err)
	}
	return bake.Record{Image: id, Name: value(found.ImageName), Snapshots: snapshotsOf(found), Data: data}, nil
}

// restorable returns the reason why an image cannot be deregistered or registered again; nil if there is none.
func (c *Cloud) restorable(i api.Image) error {
	root := rootMapping(i)
	switch {
	case i.AccountId != c.client.account:
		return fmt.Errorf("it belongs to account %s", i.AccountId)
	case i.State == api.ImageStatePending:
		return errors.New("it is pending")
	case i.State == api.ImageStateAvailable && (root == nil || len(mappingSnapshots(*root)) == 0):
		return errors.New("its root device has no snapshot, so that it could not be registered again")
	case i.SecureBoot:
		return errors.New("it has secure boot, with which no image can be registered")
	}
	return nil
}

// registrationOf is the request that makes an image as it is.
func registrationOf(i api.Image) api.CreateImageRequest {
	device := rootDevice
	mappings := furtherMappings(i)
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

// readRecord decodes a record. Both its halves must be of the same image.
func readRecord(record bake.Record) (was record, err error) {
	if err := json.Unmarshal(record.Data, &was); err != nil {
		return was, fmt.Errorf("the record of image %s (%s) cannot be read: %w", record.Image, record.Name, err)
	}
	if len(record.Snapshots) == 0 {
		return was, fmt.Errorf("the record of image %s (%s) has no snapshot to register it again from", record.Image, record.Name)
	}
	snapshots := snapshotsOf(api.Image{RootDeviceName: was.Request.RootDeviceName, BlockDeviceMappings: was.Request.BlockDeviceMappings})
	if value(was.Request.ImageName) != record.Name || !slices.Equal(snapshots, record.Snapshots) {
		return was, fmt.Errorf("the record of image %s (%s) is of the image %q with the snapshots %v, and not with %v",
			record.Image, record.Name, value(was.Request.ImageName), snapshots, record.Snapshots)
	}
	return was, nil
}

// CheckRecord returns why a record is not of one image.
func (c *Cloud) CheckRecord(record bake.Record) error {
	_, err := readRecord(record)
	return err
}

// Restore registers an image again. It looks first whether that was done before,
// by another process even.
func (c *Cloud) Restore(ctx context.Context, record bake.Record) (bake.ImageID, error) {
	was, err := readRecord(record)
	if err != nil {
		return "", err
	}
	key := imageKey{string(record.Snapshots[0]), record.Name}
	made, err := c.createImage(ctx, was.Request, true, func(ctx context.Context) (*api.Image, error) { return c.registered(ctx, key) })
	if err != nil {
		return "", fmt.Errorf("cannot register image %q again: %w", record.Name, err)
	}
	return bake.ImageID(made.ImageId), nil
}

// Regain gives an image that was registered again its permissions and tags.
func (c *Cloud) Regain(ctx context.Context, record bake.Record, id bake.ImageID) error {
	was, err := readRecord(record)
	if err != nil {
		return err
	}
	return c.unsettledImage(ctx, id, errors.Join(c.share(ctx, id, was.Permissions), c.tag(ctx, string(id), was.Tags)))
}
