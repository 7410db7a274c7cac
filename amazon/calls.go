package amazon

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// call is one call of EC2.
type call[In, Out any] func(context.Context, *In, ...func(*ec2.Options)) (*Out, error)

// calls are the calls of EC2 that a build makes in one region, each a function
// of its own. The SDK's client has more than 700 methods, and a linker that sees
// it in a struct or in an interface keeps every one of them with its wire format,
// for a template (Packer's options are templates) could ask for it by name: the
// plugin would be 50 MB large instead of 21.
type calls struct {
	AttachVolume      call[ec2.AttachVolumeInput, ec2.AttachVolumeOutput]
	CreateSnapshot    call[ec2.CreateSnapshotInput, ec2.CreateSnapshotOutput]
	CreateVolume      call[ec2.CreateVolumeInput, ec2.CreateVolumeOutput]
	DeleteSnapshot    call[ec2.DeleteSnapshotInput, ec2.DeleteSnapshotOutput]
	DeleteVolume      call[ec2.DeleteVolumeInput, ec2.DeleteVolumeOutput]
	DeregisterImage   call[ec2.DeregisterImageInput, ec2.DeregisterImageOutput]
	DescribeImages    describeImages
	DescribeInstances call[ec2.DescribeInstancesInput, ec2.DescribeInstancesOutput]
	DescribeSnapshots describeSnapshots
	DescribeVolumes   describeVolumes
	DetachVolume      call[ec2.DetachVolumeInput, ec2.DetachVolumeOutput]
	RegisterImage     call[ec2.RegisterImageInput, ec2.RegisterImageOutput]
}

// The calls that the SDK's paginators make, which want an interface.
type (
	describeImages    call[ec2.DescribeImagesInput, ec2.DescribeImagesOutput]
	describeSnapshots call[ec2.DescribeSnapshotsInput, ec2.DescribeSnapshotsOutput]
	describeVolumes   call[ec2.DescribeVolumesInput, ec2.DescribeVolumesOutput]
)

// DescribeImages implements ec2.DescribeImagesAPIClient.
func (f describeImages) DescribeImages(ctx context.Context, in *ec2.DescribeImagesInput, opts ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error) {
	return f(ctx, in, opts...)
}

// DescribeSnapshots implements ec2.DescribeSnapshotsAPIClient.
func (f describeSnapshots) DescribeSnapshots(ctx context.Context, in *ec2.DescribeSnapshotsInput, opts ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error) {
	return f(ctx, in, opts...)
}

// DescribeVolumes implements ec2.DescribeVolumesAPIClient.
func (f describeVolumes) DescribeVolumes(ctx context.Context, in *ec2.DescribeVolumesInput, opts ...func(*ec2.Options)) (*ec2.DescribeVolumesOutput, error) {
	return f(ctx, in, opts...)
}

// in answers the calls of EC2 in a region.
func (c *Client) in(region string) *calls {
	sdk := newEC2(c, region)
	return &calls{
		AttachVolume:      sdk.AttachVolume,
		CreateSnapshot:    sdk.CreateSnapshot,
		CreateVolume:      sdk.CreateVolume,
		DeleteSnapshot:    sdk.DeleteSnapshot,
		DeleteVolume:      sdk.DeleteVolume,
		DeregisterImage:   sdk.DeregisterImage,
		DescribeImages:    sdk.DescribeImages,
		DescribeInstances: sdk.DescribeInstances,
		DescribeSnapshots: sdk.DescribeSnapshots,
		DescribeVolumes:   sdk.DescribeVolumes,
		DetachVolume:      sdk.DetachVolume,
		RegisterImage:     sdk.RegisterImage,
	}
}

// newEC2 makes the SDK's client for a region. A custom endpoint serves the
// client's own region alone: a request for another one must not end there.
func newEC2(c *Client, region string) *ec2.Client {
	return ec2.NewFromConfig(c.config, func(o *ec2.Options) {
		o.Region = region
		o.Retryer = c.policy.full
		o.HTTPClient = c.transport()
		if c.endpoint != "" && region == c.config.Region {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
	})
}
