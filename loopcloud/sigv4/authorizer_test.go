package sigv4_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// directory knows one key and two regions.
type directory struct{}

func (directory) Key(id string) (state.Key, bool) {
	return state.Key{ID: id, Secret: pair.SecretAccessKey, Account: "123456789012"}, id == pair.AccessKeyID
}

func (directory) Regions() []state.Region {
	return []state.Region{{Name: "us-east-1"}, {Name: "eu-west-3"}}
}

func (directory) DefaultRegion() string { return "us-east-1" }

func TestAuthorizer(t *testing.T) {
	tests := map[string]struct {
		asked, service, region string
		keys                   aws.Credentials
		want                   state.Caller
		err                    error
	}{
		"ec2":                   {"ec2", "ec2", "eu-west-3", pair, state.Caller{Account: "123456789012", Region: "eu-west-3"}, nil},
		"ec2 in no region":      {"ec2", "ec2", "mars-1", pair, state.Caller{}, sigv4.ErrScope},
		"ec2 signed for s3":     {"ec2", "s3", "eu-west-3", pair, state.Caller{}, sigv4.ErrScope},
		"oapi fixed scope":      {"osc", "oapi", "eu-west-2", pair, state.Caller{Account: "123456789012", Region: "us-east-1"}, nil},
		"oapi in its region":    {"osc", "osc", "eu-west-3", pair, state.Caller{Account: "123456789012", Region: "eu-west-3"}, nil},
		"unknown key":           {"osc", "osc", "eu-west-3", aws.Credentials{AccessKeyID: "AKID2", SecretAccessKey: "x"}, state.Caller{}, sigv4.ErrUnknownKey},
		"other secret":          {"ec2", "ec2", "eu-west-3", aws.Credentials{AccessKeyID: pair.AccessKeyID, SecretAccessKey: "x"}, state.Caller{}, sigv4.ErrMismatch},
		"session token ignored": {"ec2", "ec2", "eu-west-3", aws.Credentials{AccessKeyID: pair.AccessKeyID, SecretAccessKey: pair.SecretAccessKey, SessionToken: "t"}, state.Caller{Account: "123456789012", Region: "eu-west-3"}, nil},
	}
	authorize := sigv4.NewAuthorizer(directory{})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, "POST", "http://cloud.example/", "body")
			if err := v4.NewSigner().SignHTTP(context.Background(), test.keys, r, sumOf("body"), test.service, test.region, time.Now()); err != nil {
				t.Fatal(err)
			}
			got, err := authorize(r, []byte("body"), test.asked)
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
