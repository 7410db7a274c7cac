package ec2_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// described returns an image as its owner sees it, disabled or not.
func (b *box) described(id string) types.Image {
	b.Helper()
	in := &sdk.DescribeImagesInput{ImageIds: []string{id}, IncludeDisabled: aws.Bool(true)}
	return must(b.client.DescribeImages(ctx, in))(b).Images[0]
}

func (b *box) deregister(id string) error {
	_, err := b.client.DeregisterImage(ctx, &sdk.DeregisterImageInput{ImageId: &id})
	return err
}

func TestDeregistrationProtection(t *testing.T) {
	for name, test := range map[string]struct {
		cooldown bool
		word     string
		after    time.Duration
	}{
		"at once":       {false, "enabled-without-cooldown", 0},
		"with cooldown": {true, "enabled-with-cooldown", 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			id := b.image("kept")
			if got := aws.ToString(b.described(id).DeregistrationProtection); got != "disabled" {
				t.Errorf("unprotected, it is %q", got)
			}
			enable := &sdk.EnableImageDeregistrationProtectionInput{ImageId: &id, WithCooldown: &test.cooldown}
			if got := *must(b.client.EnableImageDeregistrationProtection(ctx, enable))(b).Return; got != test.word {
				t.Errorf("enabling answers %q", got)
			}
			attribute := &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "deregistrationProtection"}
			if got := must(b.client.DescribeImageAttribute(ctx, attribute))(b); *got.DeregistrationProtection.Value != test.word {
				t.Errorf("the attribute is %q", *got.DeregistrationProtection.Value)
			}
			if got := *b.described(id).DeregistrationProtection; got != test.word {
				t.Errorf("described, it is %q", got)
			}
			b.refused(b.deregister(id), "OperationNotPermitted", id, test.word)
			disable := &sdk.DisableImageDeregistrationProtectionInput{ImageId: &id}
			if got := *must(b.client.DisableImageDeregistrationProtection(ctx, disable))(b).Return; got != "disabled" {
				t.Errorf("disabling answers %q", got)
			}
			if test.cooldown {
				b.refused(b.deregister(id), "OperationNotPermitted", id, "2026-03-05T05:06:07Z")
				b.clock.Pass(test.after - time.Second)
				b.refused(b.deregister(id), "OperationNotPermitted", id)
				b.clock.Pass(time.Second)
			}
			if err := b.deregister(id); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProtectionIsTheOwners(t *testing.T) {
	b := newBox(t)
	id := b.image("mine")
	b.launch(id, types.LaunchPermission{UserId: aws.String(bob)})
	_, err := b.as(bob, region).EnableImageDeregistrationProtection(ctx, &sdk.EnableImageDeregistrationProtectionInput{ImageId: &id})
	b.refused(err, "AuthFailure", id)
	_, err = b.client.EnableImageDeregistrationProtection(ctx, &sdk.EnableImageDeregistrationProtectionInput{ImageId: &id, DryRun: aws.Bool(true)})
	b.refused(err, "DryRunOperation")
	if err := b.deregister(id); err != nil {
		t.Error(err)
	}
}

func TestCopyIsUnprotected(t *testing.T) {
	b := newBox(t)
	id := b.image("source")
	must(b.client.EnableImageDeregistrationProtection(ctx, &sdk.EnableImageDeregistrationProtectionInput{ImageId: &id}))(b)
	copied := must(b.client.CopyImage(ctx, &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy")}))(b)
	if got := b.described(*copied.ImageId); *got.DeregistrationProtection != "disabled" || got.LastLaunchedTime != nil {
		t.Errorf("got %+v", got)
	}
}

// TestDisableImage checks that a disabled image is private, unlisted by default, and unusable
// until it is enabled.
func TestDisableImage(t *testing.T) {
	b := newBox(t)
	id := b.image("off")
	b.launch(id, types.LaunchPermission{UserId: aws.String(bob)})
	must(b.client.DisableImage(ctx, &sdk.DisableImageInput{ImageId: &id}))(b)
	if all := must(b.client.DescribeImages(ctx, &sdk.DescribeImagesInput{Owners: []string{"self"}}))(b).Images; len(all) != 0 {
		t.Errorf("listed are %+v", all)
	}
	if i := b.described(id); i.State != types.ImageStateDisabled {
		t.Errorf("it is %s", i.State)
	}
	_, err := b.client.CopyImage(ctx, &sdk.CopyImageInput{SourceImageId: &id, SourceRegion: aws.String(region), Name: aws.String("copy")})
	b.refused(err, "InvalidAMIID.Unavailable", id)
	must(b.client.EnableImage(ctx, &sdk.EnableImageInput{ImageId: &id}))(b)
	if i := b.described(id); i.State != types.ImageStateAvailable {
		t.Errorf("enabled, it is %s", i.State)
	}
	attribute := &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "launchPermission"}
	if got := must(b.client.DescribeImageAttribute(ctx, attribute))(b).LaunchPermissions; len(got) != 0 {
		t.Errorf("it is shared with %+v", got)
	}
}

func TestDeregisterWithSnapshots(t *testing.T) {
	b := newBox(t)
	id := b.image("whole")
	snapshot := *b.described(id).BlockDeviceMappings[0].Ebs.SnapshotId
	other := b.image("other", func(in *sdk.RegisterImageInput) { in.BlockDeviceMappings[0].Ebs.SnapshotId = &snapshot })
	for _, test := range []struct {
		image string
		code  types.SnapshotReturnCodes
	}{{other, types.SnapshotReturnCodesWarnSkipped}, {id, types.SnapshotReturnCodesSuccess}} {
		in := &sdk.DeregisterImageInput{ImageId: &test.image, DeleteAssociatedSnapshots: aws.Bool(true)}
		out := must(b.client.DeregisterImage(ctx, in))(b)
		if got := out.DeleteSnapshotResults; !*out.Return || len(got) != 1 || *got[0].SnapshotId != snapshot || got[0].ReturnCode != test.code {
			t.Errorf("%s: got %+v", test.image, got)
		}
	}
}

func TestLastLaunched(t *testing.T) {
	b := newBox(t)
	id := b.image("run")
	if at := b.described(id).LastLaunchedTime; at != nil {
		t.Errorf("before, it was launched at %s", *at)
	}
	must(b.client.RunInstances(ctx, &sdk.RunInstancesInput{ImageId: &id, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))(b)
	const want = "2026-03-04T05:06:07.890Z"
	attribute := &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "lastLaunchedTime"}
	if got := *must(b.client.DescribeImageAttribute(ctx, attribute))(b).LastLaunchedTime.Value; got != want {
		t.Errorf("the attribute is %s", got)
	}
	if got := *b.described(id).LastLaunchedTime; got != want {
		t.Errorf("described, it is %s", got)
	}
}

func TestResetImageAttribute(t *testing.T) {
	b := newBox(t)
	id := b.image("shared")
	b.launch(id, types.LaunchPermission{UserId: aws.String(bob)}, types.LaunchPermission{Group: "all"})
	_, err := b.client.ResetImageAttribute(ctx, &sdk.ResetImageAttributeInput{ImageId: &id, Attribute: "description"})
	b.refused(err, "InvalidParameterValue", "description")
	must(b.client.ResetImageAttribute(ctx, &sdk.ResetImageAttributeInput{ImageId: &id, Attribute: "launchPermission"}))(b)
	attribute := &sdk.DescribeImageAttributeInput{ImageId: &id, Attribute: "launchPermission"}
	if got := must(b.client.DescribeImageAttribute(ctx, attribute))(b).LaunchPermissions; len(got) != 0 {
		t.Errorf("it is shared with %+v", got)
	}
}

// TestInstanceUEFIData checks that an instance has its image's variables, if it boots by UEFI.
func TestInstanceUEFIData(t *testing.T) {
	b := newBox(t)
	run := func(image string) *string {
		in := &sdk.RunInstancesInput{ImageId: &image, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}
		return must(b.client.RunInstances(ctx, in))(b).Instances[0].InstanceId
	}
	vm := run(b.image("uefi", func(in *sdk.RegisterImageInput) { in.BootMode, in.UefiData = "uefi", aws.String("QUJD") }))
	got := must(b.client.GetInstanceUefiData(ctx, &sdk.GetInstanceUefiDataInput{InstanceId: vm}))(b)
	if *got.UefiData != "QUJD" || *got.InstanceId != *vm {
		t.Errorf("got %+v", got)
	}
	_, err := b.client.GetInstanceUefiData(ctx, &sdk.GetInstanceUefiDataInput{InstanceId: run(b.image("bios"))})
	b.refused(err, "UnsupportedOperation")
	_, err = b.client.GetInstanceUefiData(ctx, &sdk.GetInstanceUefiDataInput{InstanceId: aws.String("i-00000000")})
	b.refused(err, "InvalidInstanceID.NotFound")
}
