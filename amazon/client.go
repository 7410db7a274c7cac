package amazon

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
	"github.com/packer-chroot/packer-plugin-chroot/sdkhttp"
)

// dialTimeout bounds one attempt to connect to EC2. A regional endpoint is near; a slower one
// cannot be reached.
const dialTimeout = 5 * time.Second

// Client is a way to EC2 in one region and to the metadata of this instance.
// It may be used by many goroutines.
type Client struct {
	config aws.Config
	access AccessConfig
	// waitLimit is the time limit of a request and its retries. 0 means that each kind of request
	// has its own.
	waitLimit time.Duration
	// direct means that the build needs no instance.
	direct   bool
	endpoint string // with a scheme; empty for the SDK's choice
	metadata *imds.Client
	// asked is how metadata is asked.
	asked  *metadataTransport
	ec2    *calls
	policy retry.Policy
	keys   *keyring
	// cloud is the identity in EC2's responses; empty for AWS itself.
	cloud *builder.Identity
	// accepted says that EC2 has accepted the keys, and reached that it has answered. blocksReached
	// is the same for the EBS direct APIs.
	accepted, reached, blocksReached *atomic.Bool
	// regionFrom says where the region was named, for a region of the image's copies.
	regionFrom string
	// wantsCode says that a profile asks for the code of a device.
	wantsCode bool
}

// Dial makes a client. It finds the credentials and the region, for which it
// may have to ask the instance's metadata, STS or Vault, and makes no request to
// EC2. A waitLimit of 0 means that each kind of request has its own.
func Dial(ctx context.Context, access AccessConfig, waitLimit time.Duration) (*Client, error) {
	c, err := newClient(access, waitLimit)
	if err != nil {
		return nil, err
	}
	return c.connect(ctx)
}

// dialDirect is like Dial, for a build without an instance: instance_id has no effect.
func dialDirect(ctx context.Context, access AccessConfig, waitLimit time.Duration) (*Client, error) {
	access.InstanceID = ""
	c, err := newClient(access, waitLimit)
	if err != nil {
		return nil, err
	}
	c.direct = true
	return c.connect(ctx)
}

// newClient makes a client that has neither credentials nor a region yet.
func newClient(access AccessConfig, waitLimit time.Duration) (*Client, error) {
	endpoint, err := checkEndpoint("custom_endpoint_ec2", access.CustomEndpointEC2)
	if err != nil {
		return nil, err
	}
	if access.CustomEndpointEBS, err = checkEndpoint("custom_endpoint_ebs", access.CustomEndpointEBS); err != nil {
		return nil, err
	}
	c := &Client{
		access: access, waitLimit: waitLimit, endpoint: endpoint, cloud: new(builder.Identity),
		accepted: new(atomic.Bool), reached: new(atomic.Bool), blocksReached: new(atomic.Bool),
	}
	c.policy = c.newPolicy()
	return c, nil
}

// connect finds the region and the credentials, and returns the client.
func (c *Client) connect(ctx context.Context) (*Client, error) {
	if err := c.load(ctx); err != nil {
		return nil, err
	}
	if err := c.findKey(ctx); err != nil {
		return nil, err
	}
	c.ec2 = c.in(c.config.Region)
	return c, nil
}

// Region is where the client's EC2 is, such as eu-west-1.
func (c *Client) Region() string { return c.config.Region }

// Endpoint is where EC2 of the client's region is, if that is not AWS's own: by the
// user's choice, or the environment's, or a profile's.
func (c *Client) Endpoint() string {
	return aws.ToString(ec2.NewFromConfig(c.config, c.settings(c.config.Region)).Options().BaseEndpoint)
}

// in returns the operations of EC2 in a region.
func (c *Client) in(region string) *calls {
	return c.callsOf(ec2.NewFromConfig(c.config, c.settings(region)))
}

// settings are the SDK's options for EC2 of a region.
func (c *Client) settings(region string) func(*ec2.Options) {
	return func(o *ec2.Options) {
		o.Region = region
		o.Retryer = aws.NopRetryer{} // see again
		o.HTTPClient = c.transport()
		if c.access.DecodeAuthorizationMessages {
			o.APIOptions = append(o.APIOptions, c.decoding)
		}
		if endpoint := c.endpointOf(region); endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
			// the SDK refuses to look for a kind of endpoint where one is given
			o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled
			o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
		}
	}
}

// endpointOf is where EC2 of a region is; empty for the SDK's choice. A custom
// endpoint that does not name the region serves the client's own alone: a request
// for another one must not end there.
func (c *Client) endpointOf(region string) string {
	if strings.Contains(c.endpoint, regionPlace) {
		return strings.ReplaceAll(c.endpoint, regionPlace, region)
	}
	if region == c.config.Region {
		return c.endpoint
	}
	return ""
}

// transport is the HTTP client of EC2.
func (c *Client) transport() aws.HTTPClient {
	return boundedClient{answered: c.answered, next: c.transportWith(func(*http.Transport) {})}
}

// transportWith returns an HTTP client of an API with a custom endpoint. It is made from the
// configured one, so that AWS_CA_BUNDLE holds.
func (c *Client) transportWith(change func(*http.Transport)) aws.HTTPClient {
	base, ok := c.config.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		base = c.bounded()
	}
	return sdkhttp.Safe(base.WithTransportOptions(change, func(t *http.Transport) {
		if c.access.InsecureSkipTLSVerify {
			t.TLSClientConfig = trusting(t.TLSClientConfig)
		}
	}))
}

// answered notes the facts that every response of EC2 shows.
func (c *Client) answered(answer *http.Response) {
	c.cloud.Note(answer.Header)
	c.reached.Store(true)
	if answer.StatusCode == http.StatusOK {
		c.accepted.Store(true)
	}
}

// bounded returns an HTTP client with time limits for all of the SDK's requests; the SDK's own
// client has none.
func (c *Client) bounded() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTimeout(builder.ResponseLimit(builder.ResponseTimeout, c.waitLimit)).
		WithDialerOptions(func(d *net.Dialer) {
			d.Timeout = builder.ResponseLimit(dialTimeout, c.waitLimit)
		}).
		WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = builder.ResponseLimit(builder.FirstByteTimeout, c.waitLimit)
		})
}

// trusting returns a configuration that accepts any certificate: the user said
// insecure_skip_tls_verify.
func trusting(base *tls.Config) *tls.Config {
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	trust := base.Clone()
	trust.InsecureSkipVerify = true
	return trust
}
