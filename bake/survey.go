package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// basis is what is settled before anything is created.
type basis struct {
	Facts
	labels Labels
	volume VolumeSpec
	// publication is where the image is to be had, and replaced are the images there
	// that have its name, by region.
	publication Publication
	replaced    map[string][]Record
	// further are the snapshots of further devices that were copied with a locked source.
	further []SnapshotID
}

// survey asks everything that can be asked without creating anything: whatever
// can be wrong with the user's wishes is told here.
func (b *build) survey(ctx context.Context) (basis, error) {
	b.report.Step("Looking at the host, the source image and the name %q", b.plan.ImageName)
	facts, here, err := b.facts(ctx)
	if err != nil {
		return basis{}, err
	}
	spec, err := b.volumeSpec(facts)
	if err != nil {
		return basis{}, err
	}
	b.report.Detail("host %s in %s", facts.Host.ID, facts.Host.Zone)
	if facts.Source != nil {
		b.report.Detail("source image %s (%s)", facts.Source.ID, facts.Source.Name)
	}
	labels, err := b.plan.Labels(facts)
	if err != nil {
		return basis{}, err
	}
	spec.Tags = labels.VolumeTags
	from := basis{Facts: facts, labels: labels, volume: spec}
	if from.publication, err = b.cloud.Publication(ctx, facts); err != nil {
		return basis{}, err
	}
	from.volume.Encryption, from.volume.Details = from.publication.Root, from.publication.Details
	if from.replaced, err = b.inTheWay(ctx, from, here); err != nil {
		return basis{}, err
	}
	return from, b.done(ctx, "survey")
}

// facts asks the cloud and the machine side by side; the first no ends it. It also
// answers the images in the build's own region that have the name.
func (b *build) facts(ctx context.Context) (facts Facts, here []ImageID, err error) {
	ask, ctx := errgroup.WithContext(ctx)
	ask.Go(func() (err error) {
		facts.Host, err = b.cloud.Host(ctx)
		return err
	})
	ask.Go(func() (err error) {
		facts.Source, err = b.source(ctx)
		return err
	})
	ask.Go(func() (err error) {
		here, err = b.cloud.Named(ctx, b.plan.ImageName)
		return err
	})
	ask.Go(b.checkPaths)
	err = ask.Wait()
	return facts, here, err
}

// source is nil from scratch.
func (b *build) source(ctx context.Context) (*Image, error) {
	if b.plan.FromScratch {
		return nil, nil
	}
	img, err := b.cloud.Source(ctx)
	if err != nil {
		return nil, err
	}
	if img.Root.Snapshot == "" && !img.Locked {
		return nil, fmt.Errorf("cannot start from image %s: its root device %q has no snapshot", img.ID, img.RootDevice)
	}
	return &img, nil
}

// checkPaths checks what the user names on this host.
func (b *build) checkPaths() error {
	for _, file := range b.plan.CopyFiles {
		if err := b.machine.CheckFile(file); err != nil {
			return fmt.Errorf("copy_files: %w", err)
		}
	}
	if err := b.machine.CheckLockDir(b.plan.LockDir); err != nil {
		return err
	}
	if b.plan.Device != "" {
		if err := b.machine.CheckDevice(b.plan.Device); err != nil {
			return fmt.Errorf("device_path: %w", err)
		}
	}
	return b.checkMountPath()
}

// checkMountPath checks what can be known of the mount path before there is a device: its
// parents, and all of it if it is the same for every device.
func (b *build) checkMountPath() error {
	one, err := b.plan.MountPath("xvdf")
	if err != nil {
		return err
	}
	if err := b.machine.CheckMountParents(one); err != nil {
		return fmt.Errorf("mount_path: %w", err)
	}
	other, err := b.plan.MountPath("nvme1n1")
	if err != nil || one != other {
		return err
	}
	if err := b.machine.CheckMountPath(one); err != nil {
		return fmt.Errorf("mount_path: %w", err)
	}
	return nil
}

// volumeSpec decides on the root volume.
func (b *build) volumeSpec(facts Facts) (VolumeSpec, error) {
	p := b.plan
	spec := VolumeSpec{
		Build: p.Build, Zone: facts.Host.Zone, Placement: facts.Host.Placement,
		SizeGiB: p.RootSizeGiB, Type: p.RootType, IOPS: p.RootIOPS, Throughput: p.RootThroughput,
	}
	if facts.Source == nil {
		return b.blank(spec)
	}
	source := facts.Source.Root
	spec.Snapshot = source.Snapshot
	spec.SizeGiB = cmp.Or(spec.SizeGiB, source.SizeGiB)
	if spec.SizeGiB < source.SizeGiB {
		return spec, fmt.Errorf("root_volume_size is %d GiB, but the root volume of %s has %d GiB",
			spec.SizeGiB, facts.Source.ID, source.SizeGiB)
	}
	spec.Type = cmp.Or(spec.Type, source.Type)
	rules := b.cloud.VolumeType(spec.Type)
	if rules.NeedsIOPS && spec.Type != source.Type && p.RootIOPS == 0 {
		return spec, fmt.Errorf("root_volume_type is %[1]s, but the root volume of %[2]s is %[3]q: %[1]s needs a source of %[1]s, or root_volume_iops",
			spec.Type, facts.Source.ID, source.Type)
	}
	if spec.Type == source.Type {
		spec = spec.like(source, rules)
	}
	return spec, nil
}

// like takes from a volume of the same type the provisioning that is not set.
func (s VolumeSpec) like(source RootVolume, rules VolumeType) VolumeSpec {
	if rules.TakesIOPS {
		s.IOPS = cmp.Or(s.IOPS, source.IOPS)
	}
	if rules.TakesThroughput {
		s.Throughput = cmp.Or(s.Throughput, source.Throughput)
	}
	return s
}

// blank decides on a root volume from scratch.
func (b *build) blank(spec VolumeSpec) (VolumeSpec, error) {
	if spec.SizeGiB <= 0 {
		return spec, errors.New("root_volume_size must be given when building from scratch")
	}
	if b.cloud.VolumeType(spec.Type).NeedsIOPS && spec.IOPS == 0 {
		return spec, fmt.Errorf("root_volume_type cannot be %[1]s when building from scratch without root_volume_iops: "+
			"%[1]s needs a source of %[1]s, or root_volume_iops", spec.Type)
	}
	spec.Type = cmp.Or(spec.Type, b.cloud.VolumeType("").Name)
	return spec, nil
}

// unlock has a source image whose snapshots the account may not use copied, and the
// volume made of the copy. The image will have the snapshots of the copy's further
// devices, so that they are tagged as its own.
func (b *build) unlock(ctx context.Context, from basis) (basis, error) {
	if from.Source == nil || !from.Source.Locked {
		return from, nil
	}
	b.report.Step("Copying the source image %s, whose snapshots this account may not use", from.Source.ID)
	begun := time.Now()
	copied, err := b.copyImage(ctx, b.scaffold, from.Host.Region, CopySpec{
		Build: b.plan.Build, Source: from.Source.ID, SourceRegion: from.Host.Region, Name: sourceCopyName(b.plan.Build),
		SnapshotTags: from.labels.SnapshotTags, Shared: from.Source.Snapshots,
	})
	if err != nil {
		return basis{}, err
	}
	if copied.Root.Snapshot == "" {
		return basis{}, fmt.Errorf("cannot start from image %s: the root device %q of its copy %s has no snapshot",
			from.Source.ID, copied.RootDevice, copied.ID)
	}
	from.volume.Snapshot = copied.Root.Snapshot
	if from.further, err = b.further(ctx, from.Host.Region, copied, begun); err != nil {
		return basis{}, err
	}
	return from, b.done(ctx, "copy source image")
}

// further are the snapshots of a copy's further devices that were made with it. The
// image that uses them may outlive the copy, or be undone after it, so that each is
// undone by itself, too.
func (b *build) further(ctx context.Context, region string, copied Image, begun time.Time) ([]SnapshotID, error) {
	var own []SnapshotID
	for _, id := range copied.Snapshots {
		if id == copied.Root.Snapshot {
			continue
		}
		older, err := begunBefore(ctx, b.cloud, id, begun)
		if err != nil {
			return nil, err
		}
		if older {
			continue
		}
		if _, err := b.arm(b.products, act{Kind: actFurther, Answered: true, Region: region, Image: copied.ID, Snapshot: id}); err != nil {
			return nil, err
		}
		own = append(own, id)
	}
	return own, nil
}
