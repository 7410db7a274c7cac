package osc

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/outscale/osc-sdk-go/v3/pkg/middleware/auth"
	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// Client speaks to the API for one account in one region.
type Client struct {
	// base makes a request and turns every response but a success into an error; transport signs
	// the request for the region first.
	base, transport http.RoundTripper
	metadata        metadata
	retry           retry.Policy
	access          Access
	// version is the plugin's, which the API is told.
	version string
	// account is the id of the account that the keys belong to.
	account string
	// reached is set by the first answer.
	reached *atomic.Bool
	// cloud is the identity that answers tell, if any.
	cloud *builder.Identity
}

// Dial finds out how to reach the API, and reaches it once, so that refused keys
// and an unreachable endpoint are told before anything else is begun.
func Dial(ctx context.Context, access Access) (*Client, error) {
	access, err := access.resolve()
	if err != nil {
		return nil, err
	}
	access = access.settle(ctx)
	builder.Hide(access.secrets()...)
	c, err := newClient(access)
	if err != nil {
		return nil, err
	}
	if c.account, err = c.readAccount(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Region is the name of the region that the client speaks to.
func (c *Client) Region() string { return c.access.Region }

// RegionFrom says where the region was found; it is empty if the template names it.
func (c *Client) RegionFrom() string { return c.access.regionFrom }

// Endpoint is the URL of the API.
func (c *Client) Endpoint() string { return c.access.Endpoint }

// Account is the id of the account that the keys belong to.
func (c *Client) Account() string { return c.account }

// in is the same account's client in another region. It reaches nothing yet.
func (c *Client) in(region string) *Client {
	other := *c
	other.access = c.access.in(region)
	other.transport = signed(other.access, c.base)
	return &other
}

// signed signs requests with the keys, for the region.
func signed(access Access, base http.RoundTripper) http.RoundTripper {
	// It fails never: the keys are not looked at before they are used.
	signer, _ := auth.NewSecurityProviderAWSv4(access.AccessKey, access.SecretKey, "", signedService, access.Region)
	return signer.Decorate(base)
}

func newClient(access Access) (*Client, error) {
	shown, err := access.Certificate.load()
	if err != nil {
		return nil, err
	}
	cloud, reached := new(builder.Identity), new(atomic.Bool)
	base := refusing{newTransport(access, shown), cloud}
	return &Client{
		cloud:     cloud,
		base:      base,
		transport: signed(access, base),
		metadata:  newMetadata(access),
		retry:     retry.Policy{WaitLimit: access.WaitLimit, Reached: reached.Load},
		reached:   reached,
		access:    access,
		version:   version.Version,
	}, nil
}

// signedService is the service that requests are signed for, as Outscale's own
// clients do it.
const signedService = "osc"

// newTransport is like http.DefaultTransport, and asks for TLS 1.2 at least: not
// every private endpoint speaks 1.3.
func newTransport(access Access, shown []tls.Certificate) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: access.InsecureSkipTLSVerify, Certificates: shown},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: builder.ResponseLimit(builder.FirstByteTimeout, access.WaitLimit),
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   10,
		ForceAttemptHTTP2:     true,
	}
}

// readAccount returns the account of the keys.
func (c *Client) readAccount(ctx context.Context) (string, error) {
	got, err := readAccounts.call(ctx, c, api.ReadAccountsRequest{})
	if err != nil {
		return "", c.explain(err)
	}
	for _, a := range value(got.Accounts) {
		if id := value(a.AccountId); id != "" {
			return id, nil
		}
	}
	return "", fmt.Errorf("the Outscale API at %s does not say which account the access key %s belongs to",
		c.access.Endpoint, c.access.AccessKey)
}

// value returns the value that p points to, or the zero value: a response may lack any field.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
