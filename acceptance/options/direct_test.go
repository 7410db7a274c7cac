package options

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	osc "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// copyTag is the tag of a copy of a source that stays.
const copyTag = "packer-chroot-copy-of"

// calls returns how often an action was called since the last time.
func calls(b *harness.Box, action string) int {
	n := 0
	for _, c := range b.Calls() {
		if c.Action == action {
			n++
		}
	}
	return n
}

// directly builds an image without an instance, and checks its content. It returns the output.
func directly(b *harness.Box, name string, options harness.O) string {
	b.Helper()
	all := harness.O{"ami_name": name}
	for k, v := range options {
		all[k] = v
	}
	out := b.Build(b.Template(harness.Direct.Basic(all), harness.Shell("echo "+strings.ReplaceAll(name, " ", "-")+" > /root/name")))
	disk := b.Disk(called(b, name))
	if got := b.Content(disk, "/root/name"); got != strings.ReplaceAll(name, " ", "-")+"\n" || !b.Has(disk, "/bin/busybox") {
		b.Errorf("%s: the file holds %q", name, got)
	}
	return harness.Flat(out)
}

// says fails the test unless an output has all of the texts.
func says(b *harness.Box, out string, texts ...string) {
	b.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			b.Errorf("%q is missing in\n%s", text, out)
		}
	}
}

// TestDirectSources builds from sources of each kind on a machine that is no instance.
func TestDirectSources(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t, "--hosts", "0", "--key", harness.OtherKeyID+":"+harness.Secret+":"+harness.OtherAccount)
	public := b.ForeignImage("theirs", true)

	says(b, directly(b, "of public", harness.O{"source_ami": public}), "cannot be read directly", "at most $", "a month", "keep_source_copy")
	harness.Want(b, "copies of the source", calls(b, "CopyImage"), 1)
	copies := tagged(b)
	if len(copies) != 1 {
		t.Fatalf("the copies that stay are %v", copies)
	}
	says(b, directly(b, "of public again", harness.O{"source_ami": public}), "the copy "+copies[0]+" of it is used", "a month")
	harness.Want(b, "copies of the source, again", calls(b, "CopyImage"), 0)

	other := b.ForeignImage("theirs too", true)
	before := len(b.Images())
	directly(b, "of another", harness.O{"source_ami": other, "keep_source_copy": false})
	harness.Want(b, "images, with keep_source_copy = false", len(b.Images())-before, 1)
	if got := tagged(b); !slices.Equal(got, copies) {
		t.Errorf("the copies that stay are %v", got)
	}

	private := b.ForeignImage("private", true)
	shareOnlyWithUs(b, private)
	b.Calls()
	says(b, directly(b, "of private", harness.O{"source_ami": private}), "belongs to another account", "all of its blocks are uploaded")
	harness.Want(b, "copies of a shared source", calls(b, "CopyImage"), 0)

	says(b, directly(b, "encrypted", harness.O{"root_volume_kms_key_id": "alias/images"}), `root_volume_kms_key_id is "alias/images"`)
	root := b.Describe(called(b, "encrypted")).BlockDeviceMappings[0].Ebs
	if !aws.ToBool(root.Encrypted) {
		t.Errorf("the root is %+v", root)
	}
}

// tagged returns the images of the account that are copies which stay.
func tagged(b *harness.Box) (ids []string) {
	b.Helper()
	out, err := b.Client().DescribeImages(b.Context(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	b.Must(err)
	for _, img := range out.Images {
		for _, tag := range img.Tags {
			if aws.ToString(tag.Key) == copyTag {
				ids = append(ids, aws.ToString(img.ImageId))
			}
		}
	}
	return ids
}

// shareOnlyWithUs shares the snapshots of the other account's image with this account, and with nobody else.
func shareOnlyWithUs(b *harness.Box, image string) {
	b.Helper()
	theirs, all, ours := b.OutscaleAs(harness.OtherKeyID), true, []string{ourAccount(b)}
	got, err := theirs.ReadImages(b.Context(), osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageIds: &[]string{image}}})
	b.Must(err)
	for _, m := range *(*got.Images)[0].BlockDeviceMappings {
		_, err := theirs.UpdateSnapshot(b.Context(), osc.UpdateSnapshotRequest{SnapshotId: *m.Bsu.SnapshotId, PermissionsToCreateVolume: osc.PermissionsOnResourceCreation{
			Additions: &osc.PermissionsOnResource{AccountIds: &ours}, Removals: &osc.PermissionsOnResource{GlobalPermission: &all},
		}})
		b.Must(err)
	}
}

// ourAccount returns the account of the builds.
func ourAccount(b *harness.Box) string {
	b.Helper()
	return aws.ToString(b.Describe(harness.SourceID).OwnerId)
}
