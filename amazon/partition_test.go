package amazon

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/packer-chroot/packer-plugin-chroot/builder/buildertest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestPartitionsAgree checks that this table and loopcloud's name the same partitions.
func TestPartitionsAgree(t *testing.T) {
	for _, region := range []string{
		"eu-west-1", "us-east-1", "cn-north-1", "cn-northwest-1", "us-gov-west-1", "us-gov-east-1", "us-iso-east-1", "us-isob-east-1",
		"us-isof-south-1", "eu-isoe-west-1", "eusc-de-east-1", "",
	} {
		if got, want := partitionOf(region), state.Partition(region); got != want {
			t.Errorf("%s is of %s, and loopcloud says of %s", region, got, want)
		}
	}
}

// TestTemplatesOfOtherPartitions checks that ARNs of the region's own partition are accepted,
// and that ARNs of another partition, and copies to it, are refused.
func TestTemplatesOfOtherPartitions(t *testing.T) {
	type give = map[string]any
	in := func(partition, region string) give {
		arn := func(rest string) string { return "arn:" + partition + ":" + rest }
		return give{
			"region": region, "encrypt_boot": true, "kms_key_id": arn("kms:" + region + ":123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
			"root_volume_kms_key_id": arn("kms:" + region + ":123456789012:alias/root"),
			"ami_org_arns":           []any{arn("organizations::123456789012:organization/o-a1b2c3d4e5")},
			"ami_ou_arns":            []any{arn("organizations::123456789012:ou/o-a1b2c3d4e5/ou-ab12-12345678")},
			"assume_role":            give{"role_arn": arn("iam::123456789012:role/build"), "policy_arns": []any{arn("iam::aws:policy/ReadOnlyAccess")}},
		}
	}
	for _, test := range []struct {
		partition, region string
		more              give
		want              []string // of the error; nil for none
	}{
		{"aws", "eu-west-1", nil, nil},
		{"aws-cn", "cn-north-1", give{"ami_regions": []any{"cn-northwest-1"}, "region_kms_key_ids": give{"cn-northwest-1": "arn:aws-cn:kms:cn-northwest-1:123456789012:alias/a"}}, nil},
		{"aws-us-gov", "us-gov-west-1", give{"ami_regions": []any{"us-gov-east-1"}, "region_kms_key_ids": give{"us-gov-east-1": "alias/a"}}, nil},
		{"aws", "", nil, nil},
		{"aws", "cn-north-1", nil, []string{
			"assume_role: role_arn", "assume_role: policy_arns[0]", "ami_org_arns[0]", "ami_ou_arns[0]", "root_volume_kms_key_id", "kms_key_id", "arn:aws-cn: in region cn-north-1",
		}},
		{"aws-cn", "us-gov-west-1", nil, []string{"ami_org_arns[0]", "arn:aws-us-gov: in region us-gov-west-1"}},
		{"aws-cn", "cn-north-1", give{"ami_regions": []any{"eu-west-1"}, "region_kms_key_ids": give{"eu-west-1": "alias/a"}},
			[]string{"ami_regions has eu-west-1, which is of the partition aws, but region cn-north-1 is of the partition aws-cn"}},
		{"aws-cn", "cn-north-1", give{"ami_regions": []any{"cn-northwest-1"}, "region_kms_key_ids": give{"cn-northwest-1": "arn:aws:kms:cn-northwest-1:123456789012:alias/a"}},
			[]string{`region_kms_key_ids["cn-northwest-1"]`, "arn:aws-cn: in region cn-northwest-1"}},
	} {
		t.Run(test.partition+" in "+test.region, func(t *testing.T) {
			var c Config
			options := in(test.partition, test.region)
			if test.region == "" {
				options = give{"ami_org_arns": options["ami_org_arns"]}
			}
			_, err := c.Prepare(buildertest.With(t, basicExample, merge(options, test.more)))
			if test.want == nil {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			says(t, err, test.want...)
		})
	}
}

// TestEndpointsOfPartitions checks that requests to EC2 and STS are sent to hosts of the
// region's partition.
func TestEndpointsOfPartitions(t *testing.T) {
	for region, domain := range map[string]string{
		"eu-west-1": "amazonaws.com", "cn-north-1": "amazonaws.com.cn", "us-gov-west-1": "amazonaws.com", "us-iso-east-1": "c2s.ic.gov",
	} {
		alone(t)
		a := access("")
		a.Region = region
		c := dial(t, a)
		e, err := ec2.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), ec2.EndpointParameters{Region: aws.String(c.Region())})
		if err != nil || e.URI.Host != "ec2."+region+"."+domain {
			t.Errorf("EC2 of %s is at %s, %v", region, e.URI.Host, err)
		}
		s, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), sts.EndpointParameters{Region: aws.String(c.Region())})
		if err != nil || !strings.HasSuffix(s.URI.Host, "."+domain) {
			t.Errorf("STS of %s is at %s, %v", region, s.URI.Host, err)
		}
		if got := c.keyService(context.Background()); got != "https://kms."+region+"."+domain {
			t.Errorf("KMS of %s is at %s", region, got)
		}
	}
}

// TestKeysOfAnotherPartition checks the error for keys of another partition, which are refused
// as wrong keys are.
func TestKeysOfAnotherPartition(t *testing.T) {
	s := &fake{actions: map[string]action{"DescribeImages": refuseWith(401, "AuthFailure")}}
	a := access(serve(t, s).URL)
	a.Region = "cn-north-1"
	err := look(context.Background(), NewCloud(dial(t, a), &Config{}, nil))
	says(t, err, "cn-north-1", "partition aws-cn", "its own accounts and keys")
}
