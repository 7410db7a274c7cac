package amazon

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// tokenCalls are the operations of STS that are used, as functions: see calls.
type tokenCalls struct {
	AssumeRole                 assumeRole
	DecodeAuthorizationMessage func(context.Context, *sts.DecodeAuthorizationMessageInput, ...func(*sts.Options)) (*sts.DecodeAuthorizationMessageOutput, error)
}

// tokenCalls returns the operations of STS in the region of the configuration. STS has an endpoint
// of its own (AWS_ENDPOINT_URL_STS), apart from EC2's.
func (c *Client) tokenCalls() tokenCalls {
	client := sts.NewFromConfig(c.config, safe)
	return tokenCalls{AssumeRole: c.assuming(client.AssumeRole), DecodeAuthorizationMessage: client.DecodeAuthorizationMessage}
}

// safe has a client of STS lose no responses.
func safe(o *sts.Options) { o.HTTPClient = sdkhttp.Safe(o.HTTPClient) }

// assuming returns a way to assume a role that goes on by the client's policy.
func (c *Client) assuming(assume assumeRole) assumeRole {
	return func(ctx context.Context, in *sts.AssumeRoleInput, opts ...func(*sts.Options)) (out *sts.AssumeRoleOutput, err error) {
		opts = append(opts, func(o *sts.Options) { o.Retryer = aws.NopRetryer{} })
		err = c.do(ctx, sts.ServiceID, "AssumeRole", func(ctx context.Context) error {
			out, err = assume(ctx, in, opts...)
			return err
		})
		return out, err
	}
}

// assumeRole and assumeIdentity have the methods that the SDK's providers ask for.
type assumeRole func(context.Context, *sts.AssumeRoleInput, ...func(*sts.Options)) (*sts.AssumeRoleOutput, error)

func (f assumeRole) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput, o ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	return f(ctx, in, o...)
}

type assumeIdentity func(context.Context, *sts.AssumeRoleWithWebIdentityInput, ...func(*sts.Options)) (*sts.AssumeRoleWithWebIdentityOutput, error)

func (f assumeIdentity) AssumeRoleWithWebIdentity(ctx context.Context, in *sts.AssumeRoleWithWebIdentityInput, o ...func(*sts.Options)) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	return f(ctx, in, o...)
}
