package acceptance

import (
	"context"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// TestPlaces builds on instances that are not in an ordinary zone: loopcloud attaches
// only volumes that were created in the instance's own place.
func TestPlaces(t *testing.T) {
	needRoot(t)
	t.Parallel()
	const outpost = "arn:aws:outposts:eu-west-2:123456789012:outpost/op-0123456789abcdef0"
	for name, test := range map[string]struct {
		args    []string
		options o
		says    string
	}{
		"Local Zone": {[]string{"--zone", "eu-west-2-lon-1a"}, nil, "in eu-west-2-lon-1a"},
		"Outpost":    {[]string{"--outpost", outpost}, o{"root_volume_type": "gp2"}, "the host is on " + outpost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, test.args...)
			out := b.build(b.ours("near", test.options))
			if want := test.says; !strings.Contains(out, want) {
				t.Errorf("the build does not say %q: %s", want, out)
			}
			snapshot := aws.ToString(b.image(b.called("near")).BlockDeviceMappings[0].Ebs.SnapshotId)
			if snapshot == "" {
				t.Error("the image has no snapshot in the Region")
			}
		})
	}
	t.Run("Outpost without the volume type", func(t *testing.T) {
		t.Parallel()
		b := newBox(t, "--outpost", outpost)
		b.fails(b.ours("far", o{"root_volume_type": "gp3"}), `root_volume_type = "gp2"`, outpost)
	})
}

// TestMetadataService: an instance whose metadata service cannot be used fails the build
// with the command that mends it, and that command does.
func TestMetadataService(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t, "--metadata-hops", "2")
	host := b.host()
	modify := func(in ec2.ModifyInstanceMetadataOptionsInput) {
		t.Helper()
		in.InstanceId = aws.String(host)
		_, err := b.client().ModifyInstanceMetadataOptions(context.Background(), &in)
		b.must(err)
	}
	template := b.ours("mended", nil)
	modify(ec2.ModifyInstanceMetadataOptionsInput{HttpTokens: "required"})
	b.fails(template, "IMDSv2", "aws ec2 modify-instance-metadata-options --instance-id ID --http-put-response-hop-limit 2")
	modify(ec2.ModifyInstanceMetadataOptionsInput{HttpPutResponseHopLimit: aws.Int32(2), HttpEndpoint: "disabled"})
	b.fails(template, "aws ec2 modify-instance-metadata-options --instance-id ID --http-endpoint enabled")
	modify(ec2.ModifyInstanceMetadataOptionsInput{HttpEndpoint: "enabled"})
	b.build(template)
}
