package amazon

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// tokenCalls are the operations of STS that are used, as functions: see calls.
type tokenCalls struct {
	AssumeRole                 assumeRole
	DecodeAuthorizationMessage func(context.Context, *sts.DecodeAuthorizationMessageInput, ...func(*sts.Options)) (*sts.DecodeAuthorizationMessageOutput, error)
}

// tokenCallsOf are STS's in the region of the configuration. Its endpoint is its
// own (AWS_ENDPOINT_URL_STS), whatever serves EC2.
func tokenCallsOf(cfg aws.Config) tokenCalls {
	c := sts.NewFromConfig(cfg)
	return tokenCalls{AssumeRole: c.AssumeRole, DecodeAuthorizationMessage: c.DecodeAuthorizationMessage}
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
