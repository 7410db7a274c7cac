//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// awsCloud implements cloud for one account on AWS.
type awsCloud struct{ config aws.Config }

// dialAWS connects to AWS. The keys come only from the environment, or from the profile that
// it names.
func dialAWS(ctx context.Context) (cloud, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithEC2IMDSClientEnableState(imds.ClientDisabled), config.WithHTTPClient(awshttp.NewBuildableClient()))
	if err != nil {
		return nil, err
	}
	cfg.HTTPClient = sdkhttp.Safe(cfg.HTTPClient)
	return &awsCloud{cfg}, nil
}

// at returns a client for a region.
func (a *awsCloud) at(region string) *ec2.Client {
	return ec2.NewFromConfig(a.config, func(o *ec2.Options) { o.Region = region })
}

func (a *awsCloud) account(ctx context.Context) (string, error) {
	who, err := sts.NewFromConfig(a.config).GetCallerIdentity(ctx, nil)
	if err != nil {
		return "", err
	}
	return aws.ToString(who.Account), nil
}

func (a *awsCloud) image(ctx context.Context, region, id string) (any, string, error) {
	out, err := a.at(region).DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}, IncludeDeprecated: aws.Bool(true)})
	if err != nil {
		return nil, "", err
	}
	if len(out.Images) == 0 {
		return nil, "", fmt.Errorf("image %s in %s is not there", id, region)
	}
	attribute, err := a.at(region).DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameUefiData})
	if err != nil {
		return nil, "", err
	}
	image := awsImage{Image: out.Images[0]}
	if attribute.UefiData != nil {
		image.UefiData = aws.ToString(attribute.UefiData.Value)
	}
	for _, m := range image.BlockDeviceMappings {
		if m.Ebs != nil {
			return image, aws.ToString(m.Ebs.SnapshotId), nil
		}
	}
	return nil, "", fmt.Errorf("image %s in %s has no snapshot", id, region)
}

// awsImage is an image with its UEFI data, which EC2 returns separately.
type awsImage struct {
	types.Image
	UefiData string
}

func (a *awsCloud) snapshot(ctx context.Context, region, id string) (any, error) {
	out, err := a.at(region).DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	if err != nil {
		return nil, err
	}
	if len(out.Snapshots) == 0 {
		return nil, fmt.Errorf("snapshot %s in %s is not there", id, region)
	}
	return out.Snapshots[0], nil
}

func (a *awsCloud) tagged(ctx context.Context, run string) ([]resource, error) {
	regions, err := a.at(a.config.Region).DescribeRegions(ctx, nil)
	if err != nil {
		return nil, err
	}
	var all []resource
	for _, r := range regions.Regions {
		region := aws.ToString(r.RegionName)
		found, err := a.taggedIn(ctx, region, run)
		if err != nil && (region == a.config.Region || region == os.Getenv("REAL_SECOND_REGION")) {
			return nil, err
		}
		if err != nil { // an organization may forbid the region
			fmt.Fprintf(os.Stderr, "real: %s is not searched: %v\n", region, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// taggedIn is like tagged, for one region.
func (a *awsCloud) taggedIn(ctx context.Context, region, run string) ([]resource, error) {
	var all []resource
	for _, list := range []func(context.Context, string, types.Filter) ([]resource, error){a.images, a.snapshots, a.volumes} {
		found, err := list(ctx, region, types.Filter{Name: aws.String("tag:" + runTag), Values: []string{run}})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func (a *awsCloud) images(ctx context.Context, region string, tag types.Filter) ([]resource, error) {
	var all []resource
	pages := ec2.NewDescribeImagesPaginator(a.at(region), &ec2.DescribeImagesInput{
		Filters: []types.Filter{tag}, Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true), IncludeDisabled: aws.Bool(true), MaxResults: aws.Int32(500),
	})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, i := range out.Images {
			all = append(all, resource{"image", aws.ToString(i.ImageId), region, protection(i)})
		}
	}
	return all, nil
}

// protected is the state of an image that cannot be deregistered yet.
const protected = "protected from being deregistered"

func protection(i types.Image) string {
	if strings.HasPrefix(aws.ToString(i.DeregistrationProtection), "enabled") {
		return protected
	}
	return ""
}

func (a *awsCloud) snapshots(ctx context.Context, region string, tag types.Filter) ([]resource, error) {
	var all []resource
	pages := ec2.NewDescribeSnapshotsPaginator(a.at(region), &ec2.DescribeSnapshotsInput{
		Filters: []types.Filter{tag}, OwnerIds: []string{"self"}, MaxResults: aws.Int32(500),
	})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, s := range out.Snapshots {
			all = append(all, resource{"snapshot", aws.ToString(s.SnapshotId), region, ""})
		}
	}
	return all, nil
}

func (a *awsCloud) volumes(ctx context.Context, region string, tag types.Filter) ([]resource, error) {
	var all []resource
	pages := ec2.NewDescribeVolumesPaginator(a.at(region), &ec2.DescribeVolumesInput{Filters: []types.Filter{tag}, MaxResults: aws.Int32(500)})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range out.Volumes {
			t := resource{"volume", aws.ToString(v.VolumeId), region, ""}
			if v.State == types.VolumeStateInUse {
				t.state = attached
			}
			all = append(all, t)
		}
	}
	return all, nil
}

// attached is the state of a volume that only reap, or its user, may detach, because it may
// be mounted.
const attached = "attached"

func (a *awsCloud) remove(ctx context.Context, t resource) error {
	var err error
	client := a.at(t.region)
	switch {
	case t.state == attached:
		return errors.New("it is attached to an instance: unmount and detach it, and clean up again")
	case t.kind == "image":
		if t.state == protected {
			if _, err := client.DisableImageDeregistrationProtection(ctx, &ec2.DisableImageDeregistrationProtectionInput{ImageId: &t.id}); err != nil {
				return err
			}
		}
		_, err = client.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &t.id})
	case t.kind == "snapshot":
		_, err = client.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &t.id})
	case t.kind == "volume":
		_, err = client.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &t.id})
	}
	var refused smithy.APIError
	if errors.As(err, &refused) && (strings.HasSuffix(refused.ErrorCode(), ".NotFound") || refused.ErrorCode() == "InvalidAMIID.Unavailable") {
		return nil
	}
	return err
}

// probe lists volumes without IDs, the call with the lowest limit.
func (a *awsCloud) probe(ctx context.Context) (bool, error) {
	client := ec2.NewFromConfig(a.config, func(o *ec2.Options) { o.Retryer = aws.NopRetryer{} })
	_, err := client.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{MaxResults: aws.Int32(5)})
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return refused.ErrorCode() == "RequestLimitExceeded" || strings.HasPrefix(refused.ErrorCode(), "Throttl"), err
	}
	return false, err
}
