package acceptance

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// roles say what the things that are there before a build are there for, by their
// ids: all that a build makes is new.
type roles map[string]string

// of is a thing's role, or that it is new.
func (r roles) of(id *string) string { return cmp.Or(r[aws.ToString(id)], "new") }

// roles finds what is there now.
func (b *box) roles() roles {
	b.t.Helper()
	found := roles{}
	for _, at := range []string{region, elsewhere} {
		ctx, c := context.Background(), b.at(at)
		volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
		b.must(err)
		for _, v := range volumes.Volumes {
			found[aws.ToString(v.VolumeId)] = "the host's"
		}
		for _, image := range b.ownImages(at) {
			for _, m := range image.BlockDeviceMappings {
				if m.Ebs != nil {
					found[aws.ToString(m.Ebs.SnapshotId)] = "of " + aws.ToString(image.Name)
				}
			}
		}
	}
	return found
}

func (b *box) ownImages(region string) []types.Image {
	b.t.Helper()
	out, err := b.at(region).DescribeImages(context.Background(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true),
	})
	b.must(err)
	return out.Images
}

// things are what the account holds in all regions, one line each, without what is
// another in every box and every build: ids and dates.
func (b *box) things(known roles) []string {
	b.t.Helper()
	var all []string
	for _, at := range []string{region, elsewhere} {
		ctx, c := context.Background(), b.at(at)
		volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
		b.must(err)
		for _, v := range volumes.Volumes {
			all = append(all, fmt.Sprintf("%s: volume %s, %s, attached %d times, %v", at, known.of(v.VolumeId), v.State, len(v.Attachments), plainTags(v.Tags)))
		}
		snapshots, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
		b.must(err)
		for _, s := range snapshots.Snapshots {
			all = append(all, fmt.Sprintf("%s: snapshot %s, %s, %d GiB, encrypted %t, %v", at, known.of(s.SnapshotId), s.State,
				aws.ToInt32(s.VolumeSize), aws.ToBool(s.Encrypted), plainTags(s.Tags)))
		}
		for _, image := range b.ownImages(at) {
			all = append(all, b.imageLine(at, known, image))
		}
	}
	slices.Sort(all)
	return all
}

// imageLine is an image with all that it could have lost when it was registered again.
func (b *box) imageLine(at string, known roles, image types.Image) string {
	b.t.Helper()
	shared, err := b.at(at).DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: image.ImageId, Attribute: types.ImageAttributeNameLaunchPermission,
	})
	b.must(err)
	var with, devices []string
	for _, p := range shared.LaunchPermissions {
		with = append(with, aws.ToString(p.UserId)+string(p.Group))
	}
	for _, m := range image.BlockDeviceMappings {
		if m.Ebs != nil {
			devices = append(devices, fmt.Sprintf("%s %s %d GiB %s", aws.ToString(m.DeviceName), known.of(m.Ebs.SnapshotId), aws.ToInt32(m.Ebs.VolumeSize), m.Ebs.VolumeType))
		}
	}
	slices.Sort(with)
	return fmt.Sprintf("%s: image %q, %s, %q, %s %s, devices %q, root %s, for %v, protection %q, %v", at, aws.ToString(image.Name), image.State,
		aws.ToString(image.Description), image.Architecture, image.VirtualizationType, devices, aws.ToString(image.RootDeviceName), with,
		aws.ToString(image.DeregistrationProtection), plainTags(image.Tags))
}

// plainTags are tags, without which build it was.
func plainTags(tags []types.Tag) map[string]string {
	all := tagsOf(tags)
	for key := range all {
		if strings.HasPrefix(key, "packer-chroot") {
			all[key] = "a build"
		}
	}
	return all
}

// leftovers are what a build could leave on this machine, one line each.
func (b *box) leftovers() []string {
	var left []string
	for _, p := range processesWith(b.marker) {
		if !strings.HasPrefix(p, programs.loopcloud+" ") {
			left = append(left, "process "+p)
		}
	}
	for _, line := range strings.Split(read("/proc/self/mountinfo"), "\n") {
		if strings.Contains(line, b.dir) {
			left = append(left, "mount "+line)
		}
	}
	for _, loop := range loopsOf(b.cloud) {
		left = append(left, "loop device "+loop)
	}
	for _, dir := range b.keepersTmp() {
		left = append(left, "directory "+dir)
	}
	for _, dir := range []string{"lock", "state", "mnt"} {
		left = append(left, filesBelow(filepath.Join(b.dir, dir))...)
	}
	return left
}

// groupsOf are the cgroups of commands that a keeper has made, whose group is this
// process's.
func groupsOf(keeper int) (dirs []string) {
	_, own, _ := strings.Cut(read("/proc/self/cgroup"), "0::")
	own, _, _ = strings.Cut(own, "\n")
	for line := range strings.Lines(read("/proc/self/mountinfo")) {
		if f := strings.Fields(line); strings.Contains(line, " - cgroup2 ") {
			found, _ := filepath.Glob(filepath.Join(f[4], own, fmt.Sprintf("packer-chroot-%d-*", keeper)))
			dirs = append(dirs, found...)
		}
	}
	return dirs
}

// filesBelow are the files below a directory of journals or reservations. Of mounts,
// no directory may be left either.
func filesBelow(dir string) (files []string) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && (!d.IsDir() || filepath.Base(dir) == "mnt") {
			files = append(files, "file "+path)
		}
		return nil
	})
	return files
}
