package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// preflight holds the results of the lookups before anything is created.
type preflight struct {
	Facts
	labels Labels
	volume VolumeSpec
	// publication is where the image will be available, and replaced are the images there
	// that have its name, by region.
	publication Publication
	replaced    map[string][]Record
	// further are the snapshots of further devices that were copied with a locked source.
	further []SnapshotID
	// basis is the content of a direct disk.
	basis Basis
}

// copiesSource reports whether the build begins by copying the source image. A direct build copies a
// locked source only if its Basis says so: it may read a copy that an earlier build has kept.
func copiesSource(from preflight) bool {
	if from.basis.Copy != nil || from.basis.Read != "" {
		return from.basis.Copy != nil
	}
	return from.Source != nil && from.Source.Locked
}

func (b *build) preflightHeading() string {
	return fmt.Sprintf("Looking at the host, the source image and the name %q", b.plan.ImageName)
}

// begin makes the lookups and begins the journal. The remains of a killed build can be in the
// way, such as an image of the same name, or a mount on the same path: then they are
// cleaned up, and the lookups are repeated. Otherwise they are cleaned up beside the build.
func (b *build) begin(ctx context.Context) (preflight, error) {
	from, err := b.lookUp(ctx)
	if err != nil && ctx.Err() == nil && b.reapedSome(ctx) {
		b.report.Step("%s", b.preflightHeading())
		from, err = b.lookUp(ctx)
	}
	b.account = from.Host.Account
	if err != nil || b.plan.StateDir == "" {
		return from, err
	}
	b.reapBeside(ctx, from.Host)
	return from, b.ledger.Begin(b.plan.StateDir, b.header(from.Host))
}

func (b *build) header(host Host) undo.Header {
	return undo.Header{
		Build: string(b.plan.Build), Program: b.plan.Program,
		Account: host.Account, Region: host.Region, Endpoint: b.plan.Endpoint, Cloud: host.Cloud, Host: string(host.ID),
		Start: time.Now().UTC(),
	}
}

// lookUp looks up everything that is known without creating anything: all errors of the user's
// options are reported here.
func (b *build) lookUp(ctx context.Context) (preflight, error) {
	facts, here, err := b.facts(ctx)
	if err != nil {
		return preflight{}, err
	}
	spec, err := b.volumeSpec(facts)
	if err != nil {
		return preflight{}, err
	}
	b.reportHost(facts.Host)
	if facts.Source != nil {
		b.report.Detail("source image %s (%s)", facts.Source.ID, facts.Source.Name)
	}
	labels, err := b.plan.Labels(facts)
	if err != nil {
		return preflight{}, err
	}
	spec.Tags = labels.VolumeTags
	from := preflight{Facts: facts, labels: labels, volume: spec}
	if from.publication, err = b.cloud.Publication(ctx, facts); err != nil {
		return preflight{}, err
	}
	from.volume.Encryption, from.volume.Details = from.publication.Root, from.publication.Details
	if from.basis, err = b.basis(ctx, from); err != nil {
		return preflight{}, err
	}
	from.replaced, err = b.replaceable(ctx, from, here)
	return from, err
}

// facts asks the cloud and the machine side by side, until the first error. It also
// returns the images in the build's own region that have the name.
func (b *build) facts(ctx context.Context) (facts Facts, here []ImageID, err error) {
	ask, ctx := errgroup.WithContext(ctx)
	ask.Go(func() (err error) {
		facts.Host, err = b.host(ctx)
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

// source returns the source image; nil from scratch.
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

// checkPaths checks the paths on this host that the user gave.
func (b *build) checkPaths() error {
	for _, file := range b.plan.CopyFiles {
		if err := b.machine.CheckFile(file); err != nil {
			return fmt.Errorf("copy_files: %w", err)
		}
	}
	if err := b.checkDevices(); err != nil {
		return err
	}
	return b.checkMountPath()
}

// checkDevices checks that this host can have the root's disk.
func (b *build) checkDevices() error {
	if b.plan.Direct {
		if err := b.machine.CheckDirect(context.Background()); err != nil {
			return fmt.Errorf("ebs_direct: %w", err)
		}
		return nil
	}
	if err := b.machine.CheckLockDir(b.plan.LockDir); err != nil {
		return err
	}
	if b.plan.Device != "" {
		if err := b.machine.CheckDevice(b.plan.Device); err != nil {
			return fmt.Errorf("device_path: %w", err)
		}
	}
	return nil
}

// checkMountPath checks the mount path as far as it is known before there is a device: its
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

// volumeSpec returns the specification of the root volume.
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

// like inherits the settings that are not given from a volume of the same type.
func (s VolumeSpec) like(source RootVolume, rules VolumeType) VolumeSpec {
	if rules.TakesIOPS {
		s.IOPS = cmp.Or(s.IOPS, source.IOPS)
	}
	if rules.TakesThroughput {
		s.Throughput = cmp.Or(s.Throughput, source.Throughput)
	}
	return s
}

// blank returns the specification of a root volume from scratch.
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
