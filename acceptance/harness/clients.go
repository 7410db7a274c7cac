package harness

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/outscale/osc-sdk-go/v3/pkg/middleware"
	"github.com/outscale/osc-sdk-go/v3/pkg/options"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"
	"github.com/outscale/osc-sdk-go/v3/pkg/profile"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// ClientIn returns the EC2 client of a region.
func (b *Cloud) ClientIn(region string) *ec2.Client {
	o := b.Client().Options()
	o.Region = region
	return ec2.New(o)
}

// Client returns the SDK's EC2 client for the box's cloud.
func (b *Cloud) Client() *ec2.Client {
	return ec2.New(ec2.Options{
		BaseEndpoint: aws.String(b.Endpoint),
		Region:       Region,
		Credentials:  credentials.NewStaticCredentialsProvider(KeyID, Secret, ""),
		Retryer:      aws.NopRetryer{},
		HTTPClient:   sdkhttp.Safe(awshttp.NewBuildableClient()),
	})
}

// DetachAll detaches all volumes that a build has left attached. It waits until their disks are gone: a mount namespace
// of another test may hold a copy of their mounts for a moment.
func (b *Cloud) DetachAll() {
	b.Helper()
	ctx, c := context.Background(), b.Client()
	volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
	b.Must(err)
	for _, v := range volumes.Volumes {
		for _, a := range v.Attachments {
			if !strings.HasSuffix(aws.ToString(a.Device), "a1") {
				_, err := c.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: v.VolumeId})
				b.Must(err)
			}
		}
	}
	for begun := time.Now(); len(LoopsOf(b.Store)) > 0 && time.Since(begun) < Deadline; {
		time.Sleep(50 * time.Millisecond)
	}
}

// CreateVolume creates a volume and waits until it is available.
func (b *Cloud) CreateVolume(gib int32, snapshot string) string {
	b.Helper()
	c := b.Client()
	in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String(Region + "a"), Size: aws.Int32(gib)}
	if snapshot != "" {
		in.SnapshotId = aws.String(snapshot)
	}
	out, err := c.CreateVolume(context.Background(), in)
	b.Must(err)
	b.Must(ec2.NewVolumeAvailableWaiter(c, quickly).Wait(context.Background(), &ec2.DescribeVolumesInput{VolumeIds: []string{*out.VolumeId}}, Deadline))
	return *out.VolumeId
}

func quickly(o *ec2.VolumeAvailableWaiterOptions) {
	o.MinDelay, o.MaxDelay = 20*time.Millisecond, 100*time.Millisecond
}

// Attach attaches a volume under the first free name and returns its device node.
func (b *Cloud) Attach(volume string) string {
	b.Helper()
	instances, err := b.Client().DescribeInstances(context.Background(), &ec2.DescribeInstancesInput{})
	b.Must(err)
	host := instances.Reservations[0].Instances[0].InstanceId
	for letter := 'p'; letter >= 'f'; letter-- {
		_, err := b.Client().AttachVolume(context.Background(), &ec2.AttachVolumeInput{
			VolumeId: aws.String(volume), InstanceId: host, Device: aws.String("/dev/sd" + string(letter)),
		})
		if err == nil {
			node := "/dev/xvd" + string(letter)
			if _, err := os.Stat(node); err != nil {
				b.Fatalf("attached, and there is no node: %v", err)
			}
			return node
		}
		if !strings.Contains(err.Error(), "already in use") {
			b.Fatal(err)
		}
	}
	b.Fatal("no free device name")
	return ""
}

// Detach detaches a volume and waits until it is available.
func (b *Cloud) Detach(volume string) {
	b.Helper()
	c := b.Client()
	_, err := c.DetachVolume(context.Background(), &ec2.DetachVolumeInput{VolumeId: aws.String(volume)})
	b.Must(err)
	b.Must(ec2.NewVolumeAvailableWaiter(c, quickly).Wait(context.Background(), &ec2.DescribeVolumesInput{VolumeIds: []string{volume}}, Deadline))
}

// VolumeState returns the state of a volume.
func (b *Cloud) VolumeState(volume string) types.VolumeState {
	b.Helper()
	out, err := b.Client().DescribeVolumes(context.Background(), &ec2.DescribeVolumesInput{VolumeIds: []string{volume}})
	b.Must(err)
	return out.Volumes[0].State
}

// Outscale returns the SDK's client of the Outscale API, which makes every call once.
func (b *Cloud) Outscale() *osc.Client {
	b.Helper()
	c, err := osc.NewClient(&profile.Profile{
		AccessKey: KeyID, SecretKey: Secret, Region: Region, Endpoints: profile.Endpoint{API: b.Endpoint + "/api/v1"},
	}, middleware.WithBaseTransport(&http.Transport{}), options.WithoutRetry(), options.WithoutRatelimit(), options.WithoutLogging())
	b.Must(err)
	return c
}

// OutscaleAs returns the SDK's client of the Outscale API for a key.
func (b *Cloud) OutscaleAs(key string) *osc.Client {
	b.Helper()
	c, err := osc.NewClient(&profile.Profile{
		AccessKey: key, SecretKey: Secret, Region: Region, Endpoints: profile.Endpoint{API: b.Endpoint + "/api/v1"},
	}, middleware.WithBaseTransport(&http.Transport{}), options.WithoutRetry(), options.WithoutRatelimit(), options.WithoutLogging())
	b.Must(err)
	return c
}
