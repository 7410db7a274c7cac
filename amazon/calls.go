package amazon

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// call is one operation of EC2, which is made again by the client's policy.
type call[In, Out any] func(context.Context, *In) (*Out, error)

// calls are the operations of EC2 that a build makes, in one region.
//
// They are functions, and not the SDK's client, for the size of the plugin: Go's
// linker keeps every method of a type that can be reached through an interface,
// and text/template, which Packer needs, makes it do so. EC2's client has over
// seven hundred methods, which are 27 MB.
type calls struct {
	AttachVolume                         call[ec2.AttachVolumeInput, ec2.AttachVolumeOutput]
	CopyImage                            call[ec2.CopyImageInput, ec2.CopyImageOutput]
	CreateSnapshot                       call[ec2.CreateSnapshotInput, ec2.CreateSnapshotOutput]
	CreateVolume                         call[ec2.CreateVolumeInput, ec2.CreateVolumeOutput]
	DeleteSnapshot                       call[ec2.DeleteSnapshotInput, ec2.DeleteSnapshotOutput]
	DeleteTags                           call[ec2.DeleteTagsInput, ec2.DeleteTagsOutput]
	DeleteVolume                         call[ec2.DeleteVolumeInput, ec2.DeleteVolumeOutput]
	DeregisterImage                      call[ec2.DeregisterImageInput, ec2.DeregisterImageOutput]
	DescribeImageAttribute               call[ec2.DescribeImageAttributeInput, ec2.DescribeImageAttributeOutput]
	DescribeImages                       call[ec2.DescribeImagesInput, ec2.DescribeImagesOutput]
	DescribeInstances                    call[ec2.DescribeInstancesInput, ec2.DescribeInstancesOutput]
	DescribeRegions                      call[ec2.DescribeRegionsInput, ec2.DescribeRegionsOutput]
	DescribeSnapshots                    call[ec2.DescribeSnapshotsInput, ec2.DescribeSnapshotsOutput]
	DescribeVolumes                      call[ec2.DescribeVolumesInput, ec2.DescribeVolumesOutput]
	DetachVolume                         call[ec2.DetachVolumeInput, ec2.DetachVolumeOutput]
	DisableImageDeregistrationProtection call[ec2.DisableImageDeregistrationProtectionInput, ec2.DisableImageDeregistrationProtectionOutput]
	EnableImageDeprecation               call[ec2.EnableImageDeprecationInput, ec2.EnableImageDeprecationOutput]
	EnableImageDeregistrationProtection  call[ec2.EnableImageDeregistrationProtectionInput, ec2.EnableImageDeregistrationProtectionOutput]
	ModifyImageAttribute                 call[ec2.ModifyImageAttributeInput, ec2.ModifyImageAttributeOutput]
	ModifySnapshotAttribute              call[ec2.ModifySnapshotAttributeInput, ec2.ModifySnapshotAttributeOutput]
	GetAllowedImagesSettings             call[ec2.GetAllowedImagesSettingsInput, ec2.GetAllowedImagesSettingsOutput]
	GetEbsDefaultKmsKeyId                call[ec2.GetEbsDefaultKmsKeyIdInput, ec2.GetEbsDefaultKmsKeyIdOutput] //nolint:revive // the SDK's spelling
	GetEbsEncryptionByDefault            call[ec2.GetEbsEncryptionByDefaultInput, ec2.GetEbsEncryptionByDefaultOutput]
	GetImageBlockPublicAccessState       call[ec2.GetImageBlockPublicAccessStateInput, ec2.GetImageBlockPublicAccessStateOutput]
	GetSnapshotBlockPublicAccessState    call[ec2.GetSnapshotBlockPublicAccessStateInput, ec2.GetSnapshotBlockPublicAccessStateOutput]
	RegisterImage                        call[ec2.RegisterImageInput, ec2.RegisterImageOutput]
}

func (c *Client) callsOf(sdk *ec2.Client) *calls {
	return &calls{
		AttachVolume:                         again(c, sdk.AttachVolume),
		CopyImage:                            again(c, sdk.CopyImage),
		CreateSnapshot:                       again(c, sdk.CreateSnapshot),
		CreateVolume:                         again(c, sdk.CreateVolume),
		DeleteSnapshot:                       again(c, sdk.DeleteSnapshot),
		DeleteTags:                           again(c, sdk.DeleteTags),
		DeleteVolume:                         again(c, sdk.DeleteVolume),
		DeregisterImage:                      again(c, sdk.DeregisterImage),
		DescribeImageAttribute:               again(c, sdk.DescribeImageAttribute),
		DescribeImages:                       again(c, sdk.DescribeImages),
		DescribeInstances:                    again(c, sdk.DescribeInstances),
		DescribeRegions:                      again(c, sdk.DescribeRegions),
		DescribeSnapshots:                    again(c, sdk.DescribeSnapshots),
		DescribeVolumes:                      again(c, sdk.DescribeVolumes),
		DetachVolume:                         again(c, sdk.DetachVolume),
		DisableImageDeregistrationProtection: again(c, sdk.DisableImageDeregistrationProtection),
		EnableImageDeprecation:               again(c, sdk.EnableImageDeprecation),
		EnableImageDeregistrationProtection:  again(c, sdk.EnableImageDeregistrationProtection),
		ModifyImageAttribute:                 again(c, sdk.ModifyImageAttribute),
		ModifySnapshotAttribute:              again(c, sdk.ModifySnapshotAttribute),
		GetAllowedImagesSettings:             again(c, sdk.GetAllowedImagesSettings),
		GetEbsDefaultKmsKeyId:                again(c, sdk.GetEbsDefaultKmsKeyId),
		GetEbsEncryptionByDefault:            again(c, sdk.GetEbsEncryptionByDefault),
		GetImageBlockPublicAccessState:       again(c, sdk.GetImageBlockPublicAccessState),
		GetSnapshotBlockPublicAccessState:    again(c, sdk.GetSnapshotBlockPublicAccessState),
		RegisterImage:                        again(c, sdk.RegisterImage),
	}
}
