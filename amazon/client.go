package amazon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

const (
	// dialTimeout bounds one attempt to connect to EC2. A regional endpoint is
	// near; what takes longer is not reachable.
	dialTimeout = 5 * time.Second
	// answerTimeout bounds the time from a request to the first byte of its
	// answer, so that a dead connection does not hold a build for ever.
	answerTimeout = time.Minute
)

// Client is a way to EC2 in one region and to the metadata of this instance.
// It may be used by many goroutines.
type Client struct {
	config   aws.Config
	access   Access
	endpoint string // with a scheme; empty for the SDK's choice
	metadata *imds.Client
	ec2      *calls
	policy   policy
	key      aws.Credentials // without the secret: for messages
}

// Dial makes a client. It finds the credentials and the region, for which it
// may have to ask the instance's metadata, and makes no request to EC2.
func Dial(ctx context.Context, access Access) (*Client, error) {
	endpoint, err := access.check()
	if err != nil {
		return nil, err
	}
	cfg, err := config.LoadDefaultConfig(ctx, access.loading()...)
	if err != nil {
		return nil, fmt.Errorf("cannot load the AWS configuration: %w", err)
	}
	c := &Client{config: cfg, access: access, endpoint: endpoint, metadata: newMetadata(cfg), policy: newPolicy(firstPause)}
	if c.config.Region, err = c.findRegion(ctx); err != nil {
		return nil, err
	}
	if c.key, err = findKey(ctx, cfg); err != nil {
		return nil, err
	}
	c.ec2 = c.in(c.config.Region)
	return c, nil
}

// Region is where the client's EC2 is, such as eu-west-1.
func (c *Client) Region() string { return c.config.Region }

// loading is what the SDK is told before it looks at the environment.
func (a Access) loading() []func(*config.LoadOptions) error {
	options := []func(*config.LoadOptions) error{config.WithRegion(a.Region)}
	if a.AccessKey != "" {
		pair := credentials.NewStaticCredentialsProvider(a.AccessKey, a.SecretKey, "")
		options = append(options, config.WithCredentialsProvider(pair))
	}
	return options
}

// findRegion answers the region that was configured, or else the instance's.
func (c *Client) findRegion(ctx context.Context) (string, error) {
	if c.config.Region != "" {
		return c.config.Region, nil
	}
	here, err := c.identity(ctx)
	if err != nil {
		return "", fmt.Errorf("no region is given: set region, AWS_REGION, or a profile's region: %w", err)
	}
	if here.region == "" {
		return "", errors.New("no region is given, and the instance's metadata name none: set region, or AWS_REGION")
	}
	return here.region, nil
}

// findKey makes the SDK find its credentials now, where the error can say what
// to do, and not within the first request.
func findKey(ctx context.Context, cfg aws.Config) (aws.Credentials, error) {
	key, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("no AWS credentials: set access_key and secret_key, "+
			"or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the instance a role: %w", err)
	}
	return aws.Credentials{AccessKeyID: key.AccessKeyID, Source: key.Source}, nil
}

// in answers EC2 of a region.
func (c *Client) in(region string) *calls {
	return callsOf(ec2.NewFromConfig(c.config, c.settings(region)))
}

// settings are the SDK's options for EC2 of a region. A custom endpoint serves
// the client's own region alone: a request for another one must not end there.
func (c *Client) settings(region string) func(*ec2.Options) {
	return func(o *ec2.Options) {
		o.Region = region
		o.Retryer = c.policy.full
		o.HTTPClient = c.transport()
		if c.endpoint != "" && region == c.config.Region {
			o.BaseEndpoint = aws.String(c.endpoint)
		}
	}
}

// transport is the HTTP client of EC2, made from the configured one so that
// AWS_CA_BUNDLE holds.
func (c *Client) transport() aws.HTTPClient {
	base, ok := c.config.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		base = awshttp.NewBuildableClient()
	}
	return base.WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = dialTimeout
	}).WithTransportOptions(func(t *http.Transport) {
		t.ResponseHeaderTimeout = answerTimeout
		if c.access.InsecureSkipTLSVerify {
			t.TLSClientConfig = trusting(t.TLSClientConfig)
		}
	})
}

// trusting answers a configuration that accepts any certificate: the user said
// insecure_skip_tls_verify.
func trusting(base *tls.Config) *tls.Config {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	trust := base.Clone()
	trust.InsecureSkipVerify = true
	return trust
}
