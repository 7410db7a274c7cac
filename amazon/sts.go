package amazon

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// tokenCalls are the operations of STS that are used, as functions: see calls.
type tokenCalls struct {
	AssumeRole                 assumeRole
	GetCallerIdentity          func(context.Context, *sts.GetCallerIdentityInput, ...func(*sts.Options)) (*sts.GetCallerIdentityOutput, error)
	DecodeAuthorizationMessage func(context.Context, *sts.DecodeAuthorizationMessageInput, ...func(*sts.Options)) (*sts.DecodeAuthorizationMessageOutput, error)
}

// tokenCalls returns the operations of STS in the region of the configuration. STS has an endpoint
// of its own (AWS_ENDPOINT_URL_STS), apart from EC2's.
func (c *Client) tokenCalls() tokenCalls {
	client := sts.NewFromConfig(c.config, safe)
	return tokenCalls{
		AssumeRole: c.assuming(client.AssumeRole), GetCallerIdentity: client.GetCallerIdentity, DecodeAuthorizationMessage: client.DecodeAuthorizationMessage,
	}
}

// account returns the account of the keys. It needs no permission.
func (c *Client) account(ctx context.Context) (string, error) {
	var out *sts.GetCallerIdentityOutput
	err := c.do(ctx, sts.ServiceID, "GetCallerIdentity", func(ctx context.Context) (err error) {
		out, err = c.tokenCalls().GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, c.once)
		return err
	})
	if err != nil {
		return "", c.cannot(err, "find out the account of the keys%s", c.stsHint())
	}
	if aws.ToString(out.Account) == "" {
		return "", errors.New("cannot find out the account of the keys: STS answered without one")
	}
	return *out.Account, nil
}

// once makes a client of STS that makes a request once, and notes the identity of the cloud.
func (c *Client) once(o *sts.Options) {
	o.Retryer = aws.NopRetryer{}
	o.HTTPClient = boundedClient{answered: func(answer *http.Response) { c.cloud.Note(answer.Header) }, next: o.HTTPClient}
}

// stsHint explains why requests to STS fail if only EC2 has another endpoint.
func (c *Client) stsHint() string {
	if c.endpoint == "" || c.config.BaseEndpoint != nil || os.Getenv("AWS_ENDPOINT_URL_STS") != "" {
		return ""
	}
	return ", for which STS is asked at AWS's own endpoint: custom_endpoint_ec2 is for EC2 alone, so set AWS_ENDPOINT_URL_STS too"
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
