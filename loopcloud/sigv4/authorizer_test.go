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

// directory has one key, two temporary keys, and two regions.
type directory struct{}

func (directory) Key(id string) (state.Key, bool) {
	if left, ok := map[string]time.Duration{"ASIAGOOD": time.Hour, "ASIAENDED": -time.Second}[id]; ok {
		session := &state.Session{Token: "token", Until: time.Now().Add(left)}
		return state.Key{ID: id, Secret: "s", Account: "210987654321", Session: session}, true
	}
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
		"sts signed for ec2":    {"sts", "ec2", "eu-west-3", pair, state.Caller{}, sigv4.ErrScope},
		"sts in no region":      {"sts", "sts", "mars-1", pair, state.Caller{}, sigv4.ErrScope},
		"oapi fixed scope":      {"osc", "oapi", "eu-west-2", pair, state.Caller{Account: "123456789012", Region: "us-east-1"}, nil},
		"oapi in its region":    {"osc", "osc", "eu-west-3", pair, state.Caller{Account: "123456789012", Region: "eu-west-3"}, nil},
		"unknown key":           {"osc", "osc", "eu-west-3", aws.Credentials{AccessKeyID: "AKID2", SecretAccessKey: "x"}, state.Caller{}, sigv4.ErrUnknownKey},
		"other secret":          {"ec2", "ec2", "eu-west-3", aws.Credentials{AccessKeyID: pair.AccessKeyID, SecretAccessKey: "x"}, state.Caller{}, sigv4.ErrMismatch},
		"session token ignored": {"ec2", "ec2", "eu-west-3", aws.Credentials{AccessKeyID: pair.AccessKeyID, SecretAccessKey: pair.SecretAccessKey, SessionToken: "t"}, state.Caller{Account: "123456789012", Region: "eu-west-3"}, nil},
	}
	session := func(id, token string) aws.Credentials {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: "s", SessionToken: token}
	}
	for name, test := range map[string]struct {
		keys aws.Credentials
		err  error
	}{
		"of a session":                 {session("ASIAGOOD", "token"), nil},
		"of a session without a token": {session("ASIAGOOD", ""), sigv4.ErrToken},
		"of another session's token":   {session("ASIAGOOD", "another"), sigv4.ErrToken},
		"of a session that ended":      {session("ASIAENDED", "token"), sigv4.ErrSessionEnded},
	} {
		row := tests["ec2"]
		row.keys, row.err, row.want = test.keys, test.err, state.Caller{}
		if test.err == nil {
			row.want = state.Caller{Account: "210987654321", Region: "eu-west-3"}
		}
		tests[name] = row
		row.asked, row.service = "sts", "sts"
		tests["sts "+name] = row
	}
	authorize := sigv4.NewAuthorizer(directory{})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, "POST", "http://cloud.example/", "body")
			if err := v4.NewSigner().SignHTTP(context.Background(), test.keys, r, sumOf("body"), test.service, test.region, time.Now()); err != nil {
				t.Fatal(err)
			}
			if got := sigv4.KeyID(r); got != test.keys.AccessKeyID {
				t.Errorf("signed with %q", got)
			}
			got, err := authorize(r, []byte("body"), test.asked)
			if !errors.Is(err, test.err) || got != test.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
