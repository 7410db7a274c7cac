package amazon

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// bodyClient is an HTTP client that connects to nothing and counts the requests, and those whose
// body has a WriteTo: their responses can be lost (see package sdkhttp).
type bodyClient struct{ requests, unsafe int }

func (c *bodyClient) Do(r *http.Request) (*http.Response, error) {
	c.requests++
	if _, is := r.Body.(io.WriterTo); is {
		c.unsafe++
	}
	return nil, errors.New("the test has no server")
}

// TestSTSResponsesAreNotLost checks the requests to STS, by the build and by the SDK's chain of
// credentials.
func TestSTSResponsesAreNotLost(t *testing.T) {
	alone(t)
	var sent bodyClient
	c := dial(t, access("http://127.0.0.1:1"))
	c.config.HTTPClient, c.config.RetryMaxAttempts = &sent, 1
	var chain config.LoadOptions
	for _, set := range new(later).options(c) {
		if err := set(&chain); err != nil {
			t.Fatal(err)
		}
	}
	client := sts.New(sts.Options{Region: "eu-west-1", HTTPClient: &sent, Credentials: c.config.Credentials, Retryer: aws.NopRetryer{}})
	roles, identities := stscreds.AssumeRoleOptions{Client: client}, stscreds.WebIdentityRoleOptions{Client: client}
	chain.AssumeRoleCredentialOptions(&roles)
	chain.WebIdentityRoleCredentialOptions(&identities)
	assumed := &sts.AssumeRoleInput{RoleArn: aws.String(role), RoleSessionName: aws.String("me")}
	for name, call := range map[string]func(context.Context) error{
		"assume_role":           func(ctx context.Context) error { _, err := c.tokenCalls().AssumeRole(ctx, assumed); return err },
		"the role of a profile": func(ctx context.Context) error { _, err := roles.Client.AssumeRole(ctx, assumed); return err },
		"the account":           func(ctx context.Context) error { _, err := c.account(ctx); return err },
		"a decoded refusal": func(ctx context.Context) error {
			_, err := c.tokenCalls().DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: aws.String("x")})
			return err
		},
		"a web identity": func(ctx context.Context) error {
			_, err := identities.Client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
				RoleArn: aws.String(role), RoleSessionName: aws.String("me"), WebIdentityToken: aws.String("jwt"),
			})
			return err
		},
	} {
		sent = bodyClient{}
		if err := call(t.Context()); err == nil || sent.requests == 0 || sent.unsafe > 0 {
			t.Errorf("%s: %d of %d requests have a body with WriteTo (%v)", name, sent.unsafe, sent.requests, err)
		}
	}
}
