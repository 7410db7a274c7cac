package acceptance

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// client is the real EC2 client for the box's cloud.
func (b *box) client() *ec2.Client {
	return ec2.New(ec2.Options{
		BaseEndpoint: aws.String(b.endpoint),
		Region:       region,
		Credentials:  credentials.NewStaticCredentialsProvider(keyID, secret, ""),
		Retryer:      aws.NopRetryer{}, HTTPClient: sdkhttp.Safe(awshttp.NewBuildableClient()),
	})
}

// inventory is what the cloud holds, one line a thing.
func (b *box) inventory() []string {
	b.t.Helper()
	ctx, c := context.Background(), b.client()
	var all []string
	volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	b.must(err)
	for _, v := range volumes.Volumes {
		all = append(all, fmt.Sprintf("volume %s %s", aws.ToString(v.VolumeId), v.State))
	}
	snapshots, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{})
	b.must(err)
	for _, s := range snapshots.Snapshots {
		all = append(all, fmt.Sprintf("snapshot %s %s", aws.ToString(s.SnapshotId), s.State))
	}
	images, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{IncludeDeprecated: aws.Bool(true)})
	b.must(err)
	for _, i := range images.Images {
		all = append(all, fmt.Sprintf("image %s %s", aws.ToString(i.ImageId), i.State))
	}
	slices.Sort(all)
	return all
}

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// unchanged fails the test if the cloud does not hold what it held.
func (b *box) unchanged(before []string) {
	b.t.Helper()
	if diff := cmp.Diff(before, b.inventory()); diff != "" {
		b.t.Errorf("the cloud is not as before (-before +after):\n%s", diff)
	}
}

// image reads an image through EC2.
func (b *box) image(id string) types.Image {
	b.t.Helper()
	out, err := b.client().DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
	b.must(err)
	return out.Images[0]
}

// detachAll takes off the host whatever a build was told to leave there.
func (b *box) detachAll() {
	b.t.Helper()
	ctx, c := context.Background(), b.client()
	volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	b.must(err)
	for _, v := range volumes.Volumes {
		for _, a := range v.Attachments {
			if !strings.HasSuffix(aws.ToString(a.Device), "a1") {
				_, err := c.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: v.VolumeId})
				b.must(err)
			}
		}
	}
}

// TestHostCheckSees: TestMain's own look at the host must see what a test could
// leave.
func TestHostCheckSees(t *testing.T) {
	b := newBox(t)
	volume := b.volume(1, "")
	node := b.attach(volume)
	mount := filepath.Join(b.dir, "mnt")
	b.sh("mkfs.ext4 -q " + node + "; mkdir " + mount + "; mount " + node + " " + mount + "; mknod /dev/xvdzzz b 7 1048575")
	left := strings.Join(leftOnHost(b.dir, nil), "\n")
	for _, want := range []string{"loop device loop", "mount " + mount, "leading nowhere: /dev/xvdzzz"} {
		if !strings.Contains(left, want) {
			t.Errorf("%q is not seen in:\n%s", want, left)
		}
	}
	b.sh("rm /dev/xvdzzz; umount " + mount)
	b.detach(volume)
	for _, entry := range leftOnHost(b.dir, staleEntries()) {
		t.Errorf("seen, and gone: %s", entry)
	}
}

// remove deregisters an image and deletes its snapshots.
func (b *box) remove(id string) {
	b.t.Helper()
	ctx, c := context.Background(), b.client()
	img := b.image(id)
	_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: aws.String(id)})
	b.must(err)
	for _, m := range img.BlockDeviceMappings {
		if m.Ebs != nil && m.Ebs.SnapshotId != nil {
			_, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: m.Ebs.SnapshotId})
			b.must(err)
		}
	}
}
