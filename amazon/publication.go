package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Publication decides on the regions that the image is copied to. It returns an error for options
// that EC2 would refuse, or ignore, at the end.
func (c *Cloud) Publication(ctx context.Context, facts bake.Facts) (bake.Publication, error) {
	if err := c.config.checkHome(c.client.Region()); err != nil {
		return bake.Publication{}, err
	}
	plan := c.planOf(facts)
	if err := cmp.Or(plan.fits(), plan.checkHVM(), c.checkRootVolume(facts.Source)); err != nil {
		return bake.Publication{}, err
	}
	firmware, err := plan.settleFirmware(ctx)
	if err != nil {
		return bake.Publication{}, err
	}
	snapshots, err := c.givenSnapshots(ctx)
	if err != nil {
		return bake.Publication{}, err
	}
	if err := plan.checkDevices(snapshots); err != nil {
		return bake.Publication{}, err
	}
	if err := plan.checkFurther(ctx); err != nil {
		return bake.Publication{}, err
	}
	others, err := c.otherRegions(ctx)
	if err != nil {
		return bake.Publication{}, err
	}
	p, err := plan.publication(ctx, others, snapshots)
	if err != nil {
		return bake.Publication{}, err
	}
	plan.passing = p.Passing
	p.Root = plan.rootEncryption()
	decided := &decisions{firmware: firmware}
	err = plan.checkSharing(ctx, p, snapshots, decided)
	p.Details = decided
	return p, err
}

// publication returns the plan of copies. In the build's own region a copy is needed
// only if creating the root's volume does not give every volume the wanted key.
func (c imagePlan) publication(ctx context.Context, others []string, snapshots map[string]types.Snapshot) (bake.Publication, error) {
	home, skip := c.client.Region(), c.config.SkipSaveBuildRegion
	if skip && len(others) == 0 {
		return bake.Publication{}, fmt.Errorf("skip_save_build_region leaves no image at all: ami_regions has no region but %s", home)
	}
	var p bake.Publication
	if !skip && c.encryptsIn(home) && (c.keepsSourceKey() || c.leavesOtherKeys(ctx, snapshots)) {
		p.Copies = append(p.Copies, bake.Copy{Region: home, Encrypted: true, KMSKeyID: c.homeKey()})
	}
	p.Passing = skip || len(p.Copies) > 0
	p.Guarded = c.config.DeregistrationProtection.Enabled
	for _, region := range others {
		p.Copies = append(p.Copies, bake.Copy{
			Region: region, Encrypted: c.encryptsIn(region), KMSKeyID: c.config.RegionKMSKeyIDs[region],
		})
	}
	return p, nil
}

// checkHVM returns an error if an option is given that EC2 has for hvm images only, and the
// image will be paravirtual.
func (c imagePlan) checkHVM() error {
	virtualization := c.config.AMIVirtualizationType
	if virtualization == "" && c.source != nil {
		virtualization = string(c.source.VirtualizationType)
	}
	if virtualization != paravirtual {
		return nil
	}
	option := c.config.hvmOnly()
	if option == "" && c.config.BootMode != "" {
		option = "boot_mode"
	}
	if option != "" {
		return fmt.Errorf("%s is for hvm, and the image will be paravirtual", option)
	}
	return nil
}

// givenSnapshots reads the snapshots of the user's block devices.
func (c *Cloud) givenSnapshots(ctx context.Context) (map[string]types.Snapshot, error) {
	var ids []string
	for _, m := range c.config.AMIBlockDeviceMappings {
		if m.SnapshotID != "" {
			ids = append(ids, m.SnapshotID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	out, err := c.client.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids})
	if hasCode(err, codeSnapshotNotFound) {
		return nil, fmt.Errorf("ami_block_device_mappings: a snapshot_id is unknown in region %s, or not shared with this account: %w", c.client.Region(), err)
	}
	if err != nil {
		return nil, c.client.cannot(err, "read the snapshots of ami_block_device_mappings: %s", strings.Join(ids, ", "))
	}
	found := map[string]types.Snapshot{}
	for _, s := range out.Snapshots {
		found[aws.ToString(s.SnapshotId)] = s
	}
	return found, nil
}

// checkDevices returns an error for block devices of the user that RegisterImage would refuse.
func (c imagePlan) checkDevices(snapshots map[string]types.Snapshot) error {
	var errs []error
	for _, m := range c.config.AMIBlockDeviceMappings {
		if sameDevice(m.DeviceName, c.rootName()) {
			continue
		}
		if err := c.checkDevice(m, snapshots); err != nil {
			errs = append(errs, fmt.Errorf("ami_block_device_mappings: %s: %w", m.DeviceName, err))
		}
	}
	return errors.Join(errs...)
}

// checkDevice checks one that is not the root. EC2 takes a key of encryption when
// an instance is started, and none for an image.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html
func (c *Cloud) checkDevice(m BlockDevice, snapshots map[string]types.Snapshot) error {
	if m.KMSKeyID != "" {
		return fmt.Errorf("kms_key_id is %q, but EC2 accepts a key only for the root device of an image: without it, encrypted uses the account's default key",
			m.KMSKeyID)
	}
	if m.SnapshotID == "" {
		return nil
	}
	s, ok := snapshots[m.SnapshotID]
	switch size := number(s.VolumeSize); {
	case !ok:
		return fmt.Errorf("snapshot_id is %s: %w in region %s, or not shared with this account", m.SnapshotID, bake.ErrNotFound, c.client.Region())
	case s.State != types.SnapshotStateCompleted:
		return fmt.Errorf("snapshot_id is %s, whose state is %q, and must be completed", m.SnapshotID, s.State)
	case m.VolumeSize != 0 && m.VolumeSize < size:
		return fmt.Errorf("volume_size is %d GiB, but snapshot %s has %d GiB", m.VolumeSize, m.SnapshotID, size)
	case m.Encrypted && !aws.ToBool(s.Encrypted) && !c.encryptsIn(c.client.Region()):
		return fmt.Errorf("encrypted is set, but snapshot %s is not encrypted, and EC2 encrypts a device as its snapshot is: "+
			"copy the snapshot with encryption, or set encrypt_boot", m.SnapshotID)
	}
	return nil
}
