package options

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestOutpostAndLocalZone builds on instances that are not in an ordinary zone: loopcloud attaches
// only volumes that were created in the instance's own place.
func TestOutpostAndLocalZone(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	const outpost = "arn:aws:outposts:eu-west-2:123456789012:outpost/op-0123456789abcdef0"
	for name, test := range map[string]struct {
		args    []string
		options harness.O
		says    string
	}{
		"Local Zone": {[]string{"--zone", "eu-west-2-lon-1a"}, nil, "in eu-west-2-lon-1a"},
		"Outpost":    {[]string{"--outpost", outpost}, harness.O{"root_volume_type": "gp2"}, "the host is on " + outpost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := harness.New(t, test.args...)
			out := b.Build(ours(b, "near", test.options))
			if want := test.says; !strings.Contains(out, want) {
				t.Errorf("the build does not say %q: %s", want, out)
			}
			snapshot := aws.ToString(b.Describe(called(b, "near")).BlockDeviceMappings[0].Ebs.SnapshotId)
			if snapshot == "" {
				t.Error("the image has no snapshot in the Region")
			}
		})
	}
	t.Run("Outpost without the volume type", func(t *testing.T) {
		t.Parallel()
		b := harness.New(t, "--outpost", outpost)
		b.Fails(ours(b, "far", harness.O{"root_volume_type": "gp3"}), `root_volume_type = "gp2"`, outpost)
	})
}

// TestMetadataService checks that a build fails if the metadata service cannot be used, and that the suggested command
// repairs it.
func TestMetadataService(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t, "--metadata-hops", "2")
	host := host(b)
	modify := func(in ec2.ModifyInstanceMetadataOptionsInput) {
		t.Helper()
		in.InstanceId = aws.String(host)
		_, err := b.Client().ModifyInstanceMetadataOptions(context.Background(), &in)
		b.Must(err)
	}
	template := ours(b, "mended", nil)
	modify(ec2.ModifyInstanceMetadataOptionsInput{HttpTokens: "required"})
	b.Fails(template, "IMDSv2", "aws ec2 modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2")
	modify(ec2.ModifyInstanceMetadataOptionsInput{HttpPutResponseHopLimit: aws.Int32(2), HttpEndpoint: "disabled"})
	b.Fails(template, "aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled")
	modify(ec2.ModifyInstanceMetadataOptionsInput{HttpEndpoint: "enabled"})
	b.Build(template)
}
