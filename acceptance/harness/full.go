package harness

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Hooks are the points at which commands of the user run.
var Hooks = []string{"pre_mount_commands", "post_mount_commands", "provision", "pre_unmount_commands"}

// FullName is the name of the images that full builds create and replace.
const FullName = "the image"

// Full returns a template of every act that can be undone: an old image that is replaced with its snapshots,
// copies and images that are only copied, a source that is copied, permissions, protection. The build stops in
// hook, unless it is empty.
func (b *Box) Full(f Flavor, source, hook string) string {
	b.Helper()
	stop := "touch " + filepath.Join(b.Dir, "started") + "; sleep 1000"
	options := O{
		"source_PREFIX": source, "PREFIX_name": FullName, "mount_path": filepath.Join(b.Dir, "mnt", "of", "full"),
		"copy_files": []string{"/etc/resolv.conf", "/etc/passwd"}, "block_services": true, "clean_uploads": true,
		"force_deregister": true, "force_delete_snapshot": true,
		"tags": O{"made": "by a full build"}, "snapshot_tags": O{"made": "by a full build"}, "root_volume_tags": O{"made": "by a full build"},
	}
	for _, name := range Hooks {
		if name != "provision" {
			options[name] = []string{"true"}
		}
	}
	more := O{"PREFIX_account_ids": []string{OtherAccount}, "snapshot_users": []string{OtherAccount}}
	if f.Name == "amazon-chroot" {
		more = O{
			"PREFIX_users": []string{OtherAccount}, "PREFIX_regions": []string{Elsewhere}, "encrypt_boot": true,
			"kms_key_id": "alias/images", "region_kms_key_ids": O{Elsewhere: "alias/images"}, "snapshot_users": []string{OtherAccount},
			"deprecate_at": time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339), "deregistration_protection": O{"enabled": true},
		}
	}
	for k, v := range more {
		options[k] = v
	}
	if f.Direct {
		options["block_cache_encrypted"] = true // the copy of the source is encrypted
	}
	provisioners := []map[string]any{
		Shell("echo full > /root/full", "setsid sleep 1000 </dev/null >/dev/null 2>&1 &"),
		{"type": "file", "source": filepath.Dir(b.Write("upload/file", "full\n")), "destination": "/tmp"},
	}
	if hook == "provision" {
		provisioners = append(provisioners, Shell("(setsid sleep 1000 &) ; sleep 1000"))
	} else if hook != "" {
		options[hook] = []string{stop}
	}
	return b.Template(f.Basic(options), provisioners...)
}

// FullBox is a box in which full builds run, one after the other.
type FullBox struct {
	*Box
	Flavor
	Source string
	Known  Roles
	// Before and Done are the resources that exist before and after a full build.
	Before, Done []string
}

// NewFullBox returns a box with old images for full builds to replace.
func NewFullBox(t testing.TB, f Flavor) *FullBox {
	t.Helper()
	k := &FullBox{Box: New(t, append(f.Host(), "--key", OtherKeyID+":"+Secret+":"+OtherAccount)...), Flavor: f, Source: SourceID}
	k.Through(k.Described(OnlyRequests)) // answers may be garbage
	switch {
	case f.Direct:
		k.Source = k.ForeignImage("public", true)
	case f.Name == "osc-chroot":
		k.Source = k.ForeignImage("locked", false)
	}
	k.Reset()
	return k
}

// Reset removes everything of a build, and creates an old image in both regions.
func (k *FullBox) Reset() {
	k.Helper()
	ctx := context.Background()
	for _, at := range []string{Region, Elsewhere} {
		for _, image := range k.OwnImages(at) {
			if aws.ToString(image.ImageId) != SourceID {
				k.RemoveIn(at, image)
			}
		}
	}
	old := k.Loopcloud("image", "import", "--endpoint", k.Endpoint, "--name", FullName, Programs.Root)
	copied, err := k.ClientIn(Elsewhere).CopyImage(ctx, &ec2.CopyImageInput{Name: aws.String(FullName), SourceImageId: &old, SourceRegion: aws.String(Region)})
	k.Must(err)
	for at, id := range map[string]string{Region: old, Elsewhere: aws.ToString(copied.ImageId)} {
		_, err := k.ClientIn(at).CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: []types.Tag{{Key: aws.String("old"), Value: aws.String("one")}}})
		k.Must(err)
		_, err = k.ClientIn(at).ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{
			Add: []types.LaunchPermission{{UserId: aws.String(OtherAccount)}},
		}})
		k.Must(err)
	}
	k.Known = k.Roles()
	k.Before = k.Holdings(k.Known)
}

// Now returns the current resources. Before that it removes a complete copy of the source that a direct build keeps
// for later ones, so that the next build makes one too, and the blocks of the copy from the cache.
func (k *FullBox) Now() []string {
	k.Helper()
	if k.Direct {
		for _, image := range k.OwnImages(Region) {
			if TagsOf(image.Tags)[copyTag] != "" && image.State == types.ImageStateAvailable {
				k.removeLate(image)
			}
		}
		k.ForgetBlocks()
	}
	return k.Holdings(k.Known)
}

// removeLate is RemoveIn for an image that changing calls may not know yet.
func (k *FullBox) removeLate(image types.Image) {
	k.Helper()
	ctx, c := context.Background(), k.Client()
	late := func(call func() error) {
		WaitFor(k.TB, "a copy that stays is removed", func() bool { return call() == nil })
	}
	late(func() error {
		_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: image.ImageId})
		return err
	})
	late(func() error {
		_, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: image.BlockDeviceMappings[0].Ebs.SnapshotId})
		return err
	})
}

// copyTag is the key of the tag of a copy that stays for later builds.
const copyTag = "packer-chroot-copy-of"

// RemoveIn removes an image with its snapshots, protected or not.
func (k *FullBox) RemoveIn(at string, image types.Image) {
	k.Helper()
	ctx, c := context.Background(), k.ClientIn(at)
	if strings.HasPrefix(aws.ToString(image.DeregistrationProtection), "enabled") {
		_, err := c.DisableImageDeregistrationProtection(ctx, &ec2.DisableImageDeregistrationProtectionInput{ImageId: image.ImageId})
		k.Must(err)
	}
	_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: image.ImageId})
	k.Must(err)
	for _, m := range image.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			_, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: m.Ebs.SnapshotId})
			k.Must(err)
		}
	}
}

// Roles are descriptions of the resources that existed before a build, by their IDs.
type Roles map[string]string

// of returns the role of a resource, or that it is new.
func (r Roles) of(id *string) string { return cmp.Or(r[aws.ToString(id)], "new") }

// Roles returns the roles of the current resources.
func (b *Box) Roles() Roles {
	b.Helper()
	found := Roles{}
	for _, at := range []string{Region, Elsewhere} {
		ctx, c := context.Background(), b.ClientIn(at)
		volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
		b.Must(err)
		for _, v := range volumes.Volumes {
			found[aws.ToString(v.VolumeId)] = "the host's"
		}
		for _, image := range b.OwnImages(at) {
			for _, m := range image.BlockDeviceMappings {
				if m.Ebs != nil {
					found[aws.ToString(m.Ebs.SnapshotId)] = "of " + aws.ToString(image.Name)
				}
			}
		}
	}
	return found
}

// Holdings lists the account's resources in all regions, one per line, without IDs and dates, which differ in every
// box.
func (b *Box) Holdings(known Roles) []string {
	b.Helper()
	var all []string
	for _, at := range []string{Region, Elsewhere} {
		ctx, c := context.Background(), b.ClientIn(at)
		volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
		b.Must(err)
		for _, v := range volumes.Volumes {
			all = append(all, fmt.Sprintf("%s: volume %s, %s, attached %d times, %v", at, known.of(v.VolumeId), v.State, len(v.Attachments), PlainTags(v.Tags)))
		}
		snapshots, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
		b.Must(err)
		for _, s := range snapshots.Snapshots {
			all = append(all, fmt.Sprintf("%s: snapshot %s, %s, %d GiB, encrypted %t, %v", at, known.of(s.SnapshotId), s.State,
				aws.ToInt32(s.VolumeSize), aws.ToBool(s.Encrypted), PlainTags(s.Tags)))
		}
		for _, image := range b.OwnImages(at) {
			all = append(all, b.imageLine(at, known, image))
		}
	}
	slices.Sort(all)
	return all
}

// imageLine returns a line with an image's attributes, which it could have lost when it was registered again.
func (b *Box) imageLine(at string, known Roles, image types.Image) string {
	b.Helper()
	shared, err := b.ClientIn(at).DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: image.ImageId, Attribute: types.ImageAttributeNameLaunchPermission,
	})
	b.Must(err)
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
		aws.ToString(image.DeregistrationProtection), PlainTags(image.Tags))
}

// PlainTags returns tags without the build's ID.
func PlainTags(tags []types.Tag) map[string]string {
	all := TagsOf(tags)
	for key := range all {
		if strings.HasPrefix(key, "packer-chroot") {
			all[key] = "a build"
		}
	}
	return all
}
