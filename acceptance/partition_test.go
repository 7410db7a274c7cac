package acceptance

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// TestOtherPartitions builds in China and in GovCloud, with a role, keys, sharing and a
// copy: everything that has an ARN. Those of the ordinary partition are refused.
func TestOtherPartitions(t *testing.T) {
	needRoot(t)
	for partition, regions := range map[string][2]string{
		"aws-cn": {"cn-north-1", "cn-northwest-1"}, "aws-us-gov": {"us-gov-west-1", "us-gov-east-1"},
	} {
		t.Run(partition, func(t *testing.T) {
			t.Parallel()
			here, there := regions[0], regions[1]
			b := newBox(t, "--region", here, "--regions", here+","+there+","+region)
			source := strings.TrimSpace(b.loopcloud("image", "import", "--endpoint", b.endpoint, "--region", here, "--name", "busybox", programs.root))
			arn := func(partition, rest string) string { return "arn:" + partition + ":" + rest }
			options := func(partition string) o {
				return o{
					"region": here, "source_ami": source, "access_key": keyID, "secret_key": secret,
					"assume_role":  o{"role_arn": arn(partition, "iam::123456789012:role/build")},
					"encrypt_boot": true, "kms_key_id": arn(partition, "kms:"+here+":123456789012:alias/images"),
					"ami_regions": []string{there}, "region_kms_key_ids": o{there: arn(partition, "kms:"+there+":123456789012:alias/images")},
					"ami_users": []string{otherAccount}, "ami_org_arns": []string{arn(partition, "organizations::123456789012:organization/o-a1b2c3d4e5")},
				}
			}
			b.build(b.ours("made", options(partition)))
			for _, in := range regions {
				image := b.named(in, "made")
				snapshot := aws.ToString(image.BlockDeviceMappings[0].Ebs.SnapshotId)
				out, err := b.at(in).DescribeSnapshots(context.Background(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snapshot}})
				b.must(err)
				if key := aws.ToString(out.Snapshots[0].KmsKeyId); !strings.HasPrefix(key, arn(partition, "kms:"+in+":")) {
					t.Errorf("the key of %s in %s is %s", snapshot, in, key)
				}
			}
			b.fails(b.ours("refused", options("aws")), "must begin with arn:"+partition+":")
		})
	}
}
