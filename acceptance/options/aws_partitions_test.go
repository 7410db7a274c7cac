package options

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestAWSPartitions builds in China and in GovCloud, with a role, keys, sharing and a
// copy: everything that has an ARN. Those of the ordinary partition are refused.
func TestAWSPartitions(t *testing.T) {
	harness.NeedRoot(t)
	for partition, regions := range map[string][2]string{
		"aws-cn": {"cn-north-1", "cn-northwest-1"}, "aws-us-gov": {"us-gov-west-1", "us-gov-east-1"},
	} {
		t.Run(partition, func(t *testing.T) {
			t.Parallel()
			here, there := regions[0], regions[1]
			b := harness.New(t, "--region", here, "--regions", here+","+there+","+harness.Region)
			source := strings.TrimSpace(b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--region", here, "--name", "busybox", harness.Programs.Root))
			arn := func(partition, rest string) string { return "arn:" + partition + ":" + rest }
			options := func(partition string) harness.O {
				return harness.O{
					"region": here, "source_ami": source, "access_key": harness.KeyID, "secret_key": harness.Secret,
					"assume_role":  harness.O{"role_arn": arn(partition, "iam::123456789012:role/build")},
					"encrypt_boot": true, "kms_key_id": arn(partition, "kms:"+here+":123456789012:alias/images"),
					"ami_regions": []string{there}, "region_kms_key_ids": harness.O{there: arn(partition, "kms:"+there+":123456789012:alias/images")},
					"ami_users": []string{harness.OtherAccount}, "ami_org_arns": []string{arn(partition, "organizations::123456789012:organization/o-a1b2c3d4e5")},
				}
			}
			b.Build(ours(b, "made", options(partition)))
			for _, in := range regions {
				image := named(b, in, "made")
				snapshot := aws.ToString(image.BlockDeviceMappings[0].Ebs.SnapshotId)
				out, err := b.ClientIn(in).DescribeSnapshots(context.Background(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}})
				b.Must(err)
				if key := aws.ToString(out.Snapshots[0].KmsKeyId); !strings.HasPrefix(key, arn(partition, "kms:"+in+":")) {
					t.Errorf("the key of %s in %s is %s", snapshot, in, key)
				}
			}
			b.Fails(ours(b, "refused", options("aws")), "must begin with arn:"+partition+":")
		})
	}
}
