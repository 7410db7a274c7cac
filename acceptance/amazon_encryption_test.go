package acceptance

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// defaultKey returns the key that EC2 encrypts with if none is given.
func (b *box) defaultKey() string {
	b.t.Helper()
	out, err := b.client().CreateVolume(context.Background(), &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(region + "a"), Size: aws.Int32(1), Encrypted: aws.Bool(true),
	})
	b.must(err)
	_, err = b.client().DeleteVolume(context.Background(), &ec2.DeleteVolumeInput{VolumeId: out.VolumeId})
	b.must(err)
	return aws.ToString(out.KmsKeyId)
}

// TestAmazonDefaultKey builds with encrypt_boot, and without a key, from an AMI that is
// encrypted with a key of the account: the AMI has the default key, and its blank
// volumes are encrypted.
func TestAmazonDefaultKey(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	base := b.release(t, "base", o{"root_volume_kms_key_id": "alias/base"})
	key := b.defaultKey()
	if got := aws.ToString(base.root.KmsKeyId); got == "" || got == key {
		t.Fatalf("the source is encrypted with %q", got)
	}
	final := b.release(t, "final", o{
		"source_ami": aws.ToString(base.image.ImageId), "encrypt_boot": true,
		"ami_block_device_mappings": []o{{"device_name": "/dev/sdh", "volume_size": 1}},
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
