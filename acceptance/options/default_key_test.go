package options

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// defaultKey returns the key that EC2 encrypts with if none is given.
func defaultKey(b *harness.Box) string {
	b.Helper()
	out, err := b.Client().CreateVolume(context.Background(), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(harness.Region + "a"), Size: aws.Int32(1), Encrypted: aws.Bool(true),
	})
	b.Must(err)
	_, err = b.Client().DeleteVolume(context.Background(), &ec2.DeleteVolumeInput{VolumeId: out.VolumeId})
	b.Must(err)
	return aws.ToString(out.KmsKeyId)
}

// TestAmazonDefaultKey builds with encrypt_boot, and without a key, from an AMI that is
// encrypted with a key of the account: the AMI has the default key, and its blank
// volumes are encrypted.
func TestAmazonDefaultKey(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	base := released(b, t, "base", harness.O{"root_volume_kms_key_id": "alias/base"})
	key := defaultKey(b)
	if got := aws.ToString(base.root.KmsKeyId); got == "" || got == key {
		t.Fatalf("the source is encrypted with %q", got)
	}
	final := released(b, t, "final", harness.O{
		"source_ami": aws.ToString(base.image.ImageId), "encrypt_boot": true,
		"ami_block_device_mappings": []harness.O{{"device_name": "/dev/sdh", "volume_size": 1}},
	})
	same(t, "the root is encrypted", aws.ToBool(final.root.Encrypted), true)
	same(t, "the root's key", aws.ToString(final.root.KmsKeyId), key)
	for _, m := range final.image.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == "/dev/sdh" {
			same(t, "the blank volume is encrypted", aws.ToBool(m.Ebs.Encrypted), true)
		}
	}
	same(t, "devices", len(final.image.BlockDeviceMappings), 2)
}
