//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestKilledUnderLoad kills a loopcloud again and again while clients call it, some of whose
// calls it makes fail. It must start again every time, and have the data of all resources that it
// lists.
func TestKilledUnderLoad(t *testing.T) {
	dir, made := testdir.New(t), 0
	for round := range uint64(3) {
		running := serve(t, dir, "--seed", strconv.FormatUint(round, 10),
			"--fault", `{"dialect":"ec2","probability":0.05,"drop":"after"}`,
			"--fault", `{"outcome":"disk-full","probability":0.05}`)
		var clients sync.WaitGroup
		asked := make(chan struct{})
		for n := range uint64(8) {
			clients.Go(func() {
				l := load{running.client(), rand.New(rand.NewPCG(round, n))}
				for l.step(t.Context()) {
					asked <- struct{}{}
				}
			})
		}
		for range 60 + 30*round {
			<-asked
		}
		go func() {
			for range asked { // let the clients end
			}
		}()
		running.stop(syscall.SIGKILL)
		clients.Wait()
		close(asked)
		if running.rest.Len() > 0 { // such as a report of the race detector
			t.Errorf("it said %s", running.rest)
		}
		made += wantWhole(t, dir)
	}
	if made == 0 {
		t.Error("nothing was ever there")
	}
}

// load is a client that makes random calls.
type load struct {
	*ec2.Client
	dice *rand.Rand
}

// step makes one change, and reports whether the server still responds.
func (l load) step(ctx context.Context) bool {
	volumes, err := l.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("size"), Values: []string{"1"}}}})
	snapshots, snapErr := l.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	images, imageErr := l.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil || snapErr != nil || imageErr != nil {
		_, err := l.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
		return err == nil
	}
	volume := pick(l.dice, volumes.Volumes, func(v types.Volume) *string { return v.VolumeId })
	snapshot := pick(l.dice, snapshots.Snapshots, func(s types.Snapshot) *string { return s.SnapshotId })
	image := pick(l.dice, images.Images, func(i types.Image) *string { return i.ImageId })
	l.change(ctx, volume, snapshot, image)
	return true
}

// change makes one change. It may be refused, because others change resources meanwhile.
func (l load) change(ctx context.Context, volume, snapshot, image *string) {
	name := aws.String(fmt.Sprintf("image %x", l.dice.Uint64()))
	switch l.dice.IntN(8) {
	case 0:
		in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String("eu-west-2a"), Size: aws.Int32(1), SnapshotId: snapshot}
		if *snapshot == none {
			in.SnapshotId = nil
		}
		_, _ = l.CreateVolume(ctx, in)
	case 1:
		_, _ = l.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: volume})
	case 2, 3:
		_, _ = l.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: volume})
	case 4:
		_, _ = l.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: snapshot})
	case 5:
		_, _ = l.RegisterImage(ctx, &ec2.RegisterImageInput{Name: name, RootDeviceName: aws.String("/dev/sda1"), BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: snapshot}},
		}})
	case 6:
		_, _ = l.CopyImage(ctx, &ec2.CopyImageInput{SourceImageId: image, SourceRegion: aws.String("eu-west-2"), Name: name})
	case 7:
		_, _ = l.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: image, DeleteAssociatedSnapshots: aws.Bool(true)})
	}
}

// none is an ID without a resource.
const none = "vol-00000000"

// pick returns the ID of a random resource, or one without a resource.
func pick[T any](dice *rand.Rand, things []T, id func(T) *string) *string {
	if len(things) == 0 {
		return aws.String(none)
	}
	return id(things[dice.IntN(len(things))])
}

// listed returns the response of a call that lists resources. It repeats the call if the response
// comes before the SDK has finished writing the request, which then closes the connection.
func listed[In, Out any](t *testing.T, call func(context.Context, *In, ...func(*ec2.Options)) (*Out, error), in *In) *Out {
	t.Helper()
	var failed error
	for range 5 {
		out, err := call(t.Context(), in)
		if err == nil {
			return out
		}
		failed = err
	}
	t.Fatal(failed)
	return nil
}

// wantWhole starts a killed loopcloud, compares its resources with its files, and returns their
// number.
func wantWhole(t *testing.T, dir string) int {
	t.Helper()
	running := serve(t, dir)
	defer running.stop(syscall.SIGTERM)
	c := running.client()
	volumes := listed(t, c.DescribeVolumes, &ec2.DescribeVolumesInput{Filters: []types.Filter{{Name: aws.String("size"), Values: []string{"1"}}}})
	snapshots := listed(t, c.DescribeSnapshots, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	images := listed(t, c.DescribeImages, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	var told, kept []string
	for _, v := range volumes.Volumes {
		told = append(told, *v.VolumeId)
		if v.State != types.VolumeStateAvailable {
			t.Errorf("%s is %s", *v.VolumeId, v.State)
		}
	}
	for _, s := range snapshots.Snapshots {
		told = append(told, *s.SnapshotId)
	}
	for _, place := range []string{"volumes", "snapshots"} {
		files, err := os.ReadDir(filepath.Join(dir, place))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			kept = append(kept, strings.TrimSuffix(f.Name(), ".raw"))
		}
	}
	slices.Sort(told)
	slices.Sort(kept)
	if !slices.Equal(told, kept) {
		t.Errorf("told of are %v, kept are %v", told, kept)
	}
	for _, i := range images.Images {
		if of := *i.BlockDeviceMappings[0].Ebs.SnapshotId; !slices.Contains(told, of) {
			t.Errorf("%s is of %s, which is not there", *i.ImageId, of)
		}
	}
	t.Logf("%d volumes, %d snapshots, %d images", len(volumes.Volumes), len(snapshots.Snapshots), len(images.Images))
	return len(told)
}
