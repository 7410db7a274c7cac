package harness

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// TagsOf returns tags as a map.
func TagsOf(tags []types.Tag) map[string]string {
	all := map[string]string{}
	for _, tag := range tags {
		all[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return all
}

// Inventory lists the cloud's resources, one per line.
func (b *Cloud) Inventory() []string {
	b.Helper()
	ctx, c := context.Background(), b.Client()
	var all []string
	volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	b.Must(err)
	for _, v := range volumes.Volumes {
		all = append(all, fmt.Sprintf("volume %s %s", aws.ToString(v.VolumeId), v.State))
	}
	snapshots, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{})
	b.Must(err)
	for _, s := range snapshots.Snapshots {
		all = append(all, fmt.Sprintf("snapshot %s %s", aws.ToString(s.SnapshotId), s.State))
	}
	images, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{IncludeDeprecated: aws.Bool(true)})
	b.Must(err)
	for _, i := range images.Images {
		all = append(all, fmt.Sprintf("image %s %s", aws.ToString(i.ImageId), i.State))
	}
	slices.Sort(all)
	return all
}

// Unchanged fails the test unless the cloud's resources are as before.
func (b *Cloud) Unchanged(before []string) {
	b.Helper()
	if diff := difference(before, b.Inventory()); diff != "" {
		b.Errorf("the cloud is not as before (-before +after):\n%s", diff)
	}
}

// difference returns the lines that are in one list only.
func difference(before, after []string) string {
	var diff strings.Builder
	for _, line := range before {
		if !slices.Contains(after, line) {
			fmt.Fprintf(&diff, "-%s\n", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			fmt.Fprintf(&diff, "+%s\n", line)
		}
	}
	return diff.String()
}

// Want fails the test if got is not want.
func Want[T any](b *Box, what string, got, want T) {
	b.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		b.Errorf("%s is %s, want %s", what, g, w)
	}
}
