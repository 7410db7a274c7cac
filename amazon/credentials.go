package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// mfaSession is how long a session that a code began lasts, where the profile
// does not say: the longest that every role allows, for a code is good once and
// the session cannot be renewed.
const mfaSession = time.Hour

// defaultSession is the session name of an assumed role that was given none.
const defaultSession = "packer-amazon-chroot"

// renewBefore is how long before their end keys are replaced: they must be good still
// when a request arrives, by AWS's clock and not by this machine's.
const renewBefore = time.Minute

// renewedEarly has keys be replaced before their end.
func renewedEarly(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = max(o.ExpiryWindow, renewBefore) }

// load makes the SDK's configuration: region and credentials. Without a region it is made again
// with the instance's, because the chain may need one to reach STS.
func (c *Client) load(ctx context.Context) error {
	if err := c.loadIn(ctx, c.access.Region); err != nil {
		return err
	}
	if c.config.Region == "" {
		region, err := c.regionHere(ctx)
		if err != nil {
			return err
		}
		if err := c.loadIn(ctx, region); err != nil {
			return err
		}
	}
	if c.access.AssumeRole.RoleARN != "" {
		c.config.Credentials = c.access.AssumeRole.provider(c.tokenCalls().AssumeRole)
	}
	c.keys = &keyring{chain: c.config.Credentials}
	c.config.Credentials = c.keys
	return nil
}

// loadIn loads the configuration with a region, which may be empty.
func (c *Client) loadIn(ctx context.Context, region string) error {
	options, err := c.loading(region)
	if err != nil {
		return err
	}
	var chain later
	if c.config, err = config.LoadDefaultConfig(ctx, append(options, chain.options(c)...)...); err != nil {
		return misconfigured(err)
	}
	c.config.RetryMaxAttempts = 0 // of AWS_MAX_ATTEMPTS: see Client.newPolicy
	c.wantsCode = chain.wantsCode
	c.metadata, c.asked = newMetadata(c.config, c.waitLimit)
	chain.Client, chain.endpoint = c.metadata, c.config.BaseEndpoint
	return nil
}

// later stands in the chain for clients that are not known yet. The SDK makes the chain's clients
// before it has read the endpoints (AWS_ENDPOINT_URL, or the profile's endpoint_url), and so would
// ask AWS's own STS.
type later struct {
	*imds.Client
	endpoint *string
	// wantsCode says that a role of the chain asks for the code of a device.
	wantsCode bool
}

// options make the chain ask the metadata and STS as we do, and give it the code.
func (l *later) options(c *Client) []func(*config.LoadOptions) error {
	mfa := c.access.withMFA()
	return []func(*config.LoadOptions) error{
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) { o.Client = l }),
		config.WithAssumeRoleCredentialOptions(func(o *stscreds.AssumeRoleOptions) {
			mfa(o)
			l.wantsCode = l.wantsCode || o.SerialNumber != nil
			if client := o.Client; client != nil {
				o.Client = c.assuming(func(ctx context.Context, in *sts.AssumeRoleInput, opts ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
					return client.AssumeRole(ctx, in, append(opts, l.setEndpoint, safe)...)
				})
			}
		}),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			if client := o.Client; client != nil {
				o.Client = assumeIdentity(func(ctx context.Context, in *sts.AssumeRoleWithWebIdentityInput, opts ...func(*sts.Options)) (out *sts.AssumeRoleWithWebIdentityOutput, err error) {
					err = c.do(ctx, sts.ServiceID, "AssumeRoleWithWebIdentity", func(ctx context.Context) error {
						out, err = client.AssumeRoleWithWebIdentity(ctx, in, append(opts, l.setEndpoint, safe)...)
						return err
					})
					return out, err
				})
			}
		}),
	}
}

// setEndpoint sets the endpoint of STS, unless it has one of its own.
func (l *later) setEndpoint(o *sts.Options) {
	if o.BaseEndpoint == nil {
		o.BaseEndpoint = l.endpoint
	}
}

// loading returns the settings that precede the SDK's environment. Empty ones leave the choice to
// the environment.
func (c *Client) loading(region string) ([]func(*config.LoadOptions) error, error) {
	a := c.access
	options := []func(*config.LoadOptions) error{
		config.WithRegion(region),
		config.WithSharedConfigProfile(a.Profile),
		config.WithEC2IMDSEndpoint(a.CustomEndpointMetadata),
		config.WithCredentialsCacheOptions(renewedEarly),
		config.WithLogger(logging.NewStandardLogger(log.Writer())), // where secrets are struck out
		config.WithHTTPClient(c.bounded()),
		config.WithAPIOptions([]func(*middleware.Stack) error{telling}),
	}
	if a.SkipMetadataAPICheck {
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	if a.UseFIPSEndpoint {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if a.UseDualStackEndpoint {
		options = append(options, config.WithUseDualStackEndpoint(aws.DualStackEndpointStateEnabled))
	}
	if a.SharedCredentialsFile != "" {
		file, err := existing(a.SharedCredentialsFile)
		if err != nil {
			return nil, err
		}
		options = append(options, config.WithSharedCredentialsFiles([]string{file}))
	}
	keys, err := a.givenKeys()
	if keys != nil {
		options = append(options, config.WithCredentialsProvider(keys))
	}
	return options, err
}

// existing returns the path of shared_credentials_file. The SDK passes over a
// file that is not there.
func existing(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("shared_credentials_file: %w", err)
		}
		path = filepath.Join(home, rest)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("shared_credentials_file: %w", err)
	}
	return path, nil
}

// givenKeys are the keys that the options name, nil if they name none.
func (a AccessConfig) givenKeys() (aws.CredentialsProvider, error) {
	switch {
	case a.VaultAWSEngine.isSet():
		return newVaultKeys(a.VaultAWSEngine)
	case a.AccessKey != "":
		return credentials.NewStaticCredentialsProvider(a.AccessKey, a.SecretKey, a.Token), nil
	default:
		return nil, nil
	}
}

// withMFA gives the code, if there is one, to the assuming of a profile's role,
// once.
func (a AccessConfig) withMFA() func(*stscreds.AssumeRoleOptions) {
	if a.MFACode == "" {
		return func(*stscreds.AssumeRoleOptions) {}
	}
	var given atomic.Bool
	return func(o *stscreds.AssumeRoleOptions) {
		o.Duration = cmp.Or(o.Duration, mfaSession)
		o.TokenProvider = func() (string, error) {
			if given.Swap(true) {
				return "", errors.New("mfa_code was used, and is good once: give the profile a longer duration_seconds, or build with a new code")
			}
			return a.MFACode, nil
		}
	}
}

// misconfigured adds advice to an error of loading the configuration.
func misconfigured(err error) error {
	var noProfile config.SharedConfigProfileNotExistError
	var noCode config.AssumeRoleTokenProviderNotSetError
	switch {
	case errors.As(err, &noProfile):
		return fmt.Errorf("there is no profile %q: check profile, AWS_PROFILE, shared_credentials_file, "+
			"AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE: %w", noProfile.Profile, err)
	case errors.As(err, &noCode):
		return fmt.Errorf("the profile has an mfa_serial: give mfa_code, which the device shows: %w", err)
	default:
		return fmt.Errorf("cannot load the AWS configuration: %w", err)
	}
}

// provider hands out the role's keys, and renews them.
func (a AssumeRoleConfig) provider(client stscreds.AssumeRoleAPIClient) aws.CredentialsProvider {
	return aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(client, a.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.Duration = time.Duration(a.DurationSeconds) * time.Second
		o.ExternalID = optional(a.ExternalID)
		o.Policy = optional(a.Policy)
		o.RoleSessionName = cmp.Or(a.SessionName, defaultSession)
		o.TransitiveTagKeys = a.TransitiveTagKeys
		for _, arn := range a.PolicyARNs {
			o.PolicyARNs = append(o.PolicyARNs, ststypes.PolicyDescriptorType{Arn: aws.String(arn)})
		}
		for _, key := range slices.Sorted(maps.Keys(a.Tags)) {
			o.Tags = append(o.Tags, ststypes.Tag{Key: aws.String(key), Value: aws.String(a.Tags[key])})
		}
	}), renewedEarly)
}

// keyring hands out the chain's keys, and remembers which they were for messages.
// It keeps them out of logs, those too that replace others in a long build.
type keyring struct {
	chain aws.CredentialsProvider
	last  atomic.Pointer[aws.Credentials] // without its secrets
}

// Retrieve implements aws.CredentialsProvider.
func (k *keyring) Retrieve(ctx context.Context) (aws.Credentials, error) {
	keys, err := k.chain.Retrieve(ctx)
	if err == nil {
		builder.Hide(keys.SecretAccessKey, keys.SessionToken)
		k.last.Store(&aws.Credentials{AccessKeyID: keys.AccessKeyID, Source: keys.Source})
	}
	return keys, err
}

// known is the access key that was handed out last, and its source; empty before.
func (k *keyring) known() aws.Credentials {
	if last := k.last.Load(); last != nil {
		return *last
	}
	return aws.Credentials{}
}

// findKey has the SDK find its credentials now, so that the error can give advice. EC2 accepts or
// refuses them with the first request, which is made anyway.
func (c *Client) findKey(ctx context.Context) error {
	_, err := c.keys.Retrieve(ctx)
	if err == nil || c.access.SkipCredentialValidation {
		return nil
	}
	var asked *smithy.OperationError
	switch {
	case c.access.VaultAWSEngine.isSet():
		return err
	case errors.As(err, &asked) && asked.Service() == "STS":
		return c.cannot(err, "get keys %s", c.access.role())
	default:
		return fmt.Errorf("no AWS credentials: set access_key and secret_key, profile, "+
			"or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the instance a role%s: %w", c.roleFault(err), err)
	}
}

// roleFault says why the metadata service did not give out the keys of the instance's
// role, if that was the last to be asked.
func (c *Client) roleFault(err error) string {
	var asked *smithy.OperationError
	if !errors.As(err, &asked) || asked.Service() != imds.ServiceID || absent(err) {
		return ""
	}
	return fmt.Sprintf(" (the metadata service, which has the role's keys: %s)", c.metadataFault(err))
}

// role says which role's keys are wanted.
func (a AccessConfig) role() string {
	if a.AssumeRole.RoleARN != "" {
		return "of role " + a.AssumeRole.RoleARN
	}
	return "of the role that the profile or the environment names"
}
