package amazon

import (
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// idleBlockConnections is the number of connections to the EBS direct APIs that are kept: as many as
// requests are made at the same time. The SDK's own limit is 10.
const idleBlockConnections = 64

// blockTimeout is the time limit of a request for a block: 64 at a time take half of it at 10 Mbit/s.
const blockTimeout = time.Minute

// blockClient returns a client of the EBS direct APIs in the client's region.
func (c *Client) blockClient() *ebsdirect.Client {
	policy := c.policy
	policy.Reached = c.blocksReached.Load
	return ebsdirect.New(ebsdirect.Options{
		SDK: ebs.NewFromConfig(c.config, c.blockSettings), Policy: policy, Kind: kindOf, Cannot: c.cannot,
		Parallel: idleBlockConnections, Attempt: builder.ResponseLimit(blockTimeout, c.waitLimit),
	})
}

// blockSettings are the SDK's options for the EBS direct APIs.
func (c *Client) blockSettings(o *ebs.Options) {
	o.Retryer = aws.NopRetryer{} // ebsdirect repeats requests
	o.HTTPClient = boundedClient{answered: c.blocksAnswered, next: c.transportWith(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = idleBlockConnections
	})}
	if c.access.CustomEndpointEBS != "" {
		o.BaseEndpoint = aws.String(strings.ReplaceAll(c.access.CustomEndpointEBS, regionPlace, c.Region()))
		o.EndpointOptions.UseFIPSEndpoint = aws.FIPSEndpointStateDisabled // as for EC2: see settings
		o.EndpointOptions.UseDualStackEndpoint = aws.DualStackEndpointStateDisabled
	}
}

// blocksAnswered notes the facts that every response of the EBS direct APIs shows.
func (c *Client) blocksAnswered(answer *http.Response) {
	c.cloud.Note(answer.Header)
	c.blocksReached.Store(true)
}
