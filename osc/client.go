// Package osc is all that knows Outscale: how to reach its API, and bake.Cloud
// over it.
//
// The SDK is osc-sdk-go v3 (a release candidate) rather than v2. V2 is 4 MB
// larger, brings the retired aws-sdk-go v1, signs with one fixed region and
// knows no ClientToken on reading; v3 takes its transport and every layer above
// it as an option, and that is used here to the full. Its own retries are off,
// because they repeat every POST, CreateImage included, and send an old
// signature again; its rate limit is off, because it makes a build slow that the
// API would let be fast; its logger is off, because it writes to standard
// output, which is Packer's channel to a plugin. What comes in their place is
// retry.go, the only place where a call is made twice, and refusal.go, which
// gives every refused answer one type, for the SDK has none for 409, 429 and 503.
package osc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/outscale/osc-sdk-go/v3/pkg/middleware"
	"github.com/outscale/osc-sdk-go/v3/pkg/options"
	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"
	"github.com/outscale/osc-sdk-go/v3/pkg/profile"
)

// Access is what it takes to reach the API. What is empty is looked for in the
// environment.
type Access struct {
	// AccessKey and SecretKey go together: OSC_ACCESS_KEY, OSC_SECRET_KEY.
	AccessKey, SecretKey string
	// Region is a region's name, such as eu-west-2: OSC_REGION. It may be left
	// out where the endpoint is of the form api.REGION.outscale.com.
	Region string
	// Endpoint is a URL, or a host without a scheme, of the API: OSC_ENDPOINT_API.
	// Without a path it gets /api/v1. Empty means Outscale's own for the region.
	Endpoint string
	// InsecureSkipTLSVerify accepts any certificate.
	InsecureSkipTLSVerify bool
	// MetadataEndpoint is the URL of the metadata service: OSC_METADATA_ENDPOINT.
	// Empty means the link-local address of every VM.
	MetadataEndpoint string
}

// Client speaks to the API for one account in one region.
type Client struct {
	api      *api.Client
	metadata metadata
	retry    retry
	access   Access
	// account is the id of the account that the keys belong to.
	account string
}

// Dial finds out how to reach the API, and reaches it once, so that refused keys
// and an unreachable endpoint are told before anything else is begun.
func Dial(ctx context.Context, access Access) (*Client, error) {
	access, err := access.resolve()
	if err != nil {
		return nil, err
	}
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

// Account is the id of the account that the keys belong to.
func (c *Client) Account() string { return c.account }

func newClient(access Access) (*Client, error) {
	p := &profile.Profile{
		AccessKey: access.AccessKey,
		SecretKey: access.SecretKey,
		Region:    access.Region,
		Endpoints: profile.Endpoint{API: access.Endpoint},
	}
	sdk, err := api.NewClient(p,
		middleware.WithBaseTransport(newTransport(access.InsecureSkipTLSVerify)),
		options.WithoutRatelimit(),
		options.WithoutLogging(),
		middleware.WithMiddleware(middleware.MiddlewareSlotRetry, refuser{}),
		options.WithUseragent("packer-plugin-osc-chroot"),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot set up the Outscale API at %s: %w", access.Endpoint, err)
	}
	return &Client{
		api:      sdk,
		metadata: newMetadata(access.MetadataEndpoint),
		retry:    defaultRetry(),
		access:   access,
	}, nil
}

// newTransport is like http.DefaultTransport, and asks for TLS 1.2 at least: the
// SDK's own asks for 1.3, which not every private endpoint speaks.
func newTransport(insecure bool) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   10,
		ForceAttemptHTTP2:     true,
	}
}

// readAccount asks who the keys belong to.
func (c *Client) readAccount(ctx context.Context) (string, error) {
	got, err := call(ctx, c, "ReadAccounts", c.api.ReadAccounts, api.ReadAccountsRequest{})
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

// explain adds what the user can do about an error of the first call.
func (c *Client) explain(err error) error {
	var no *refusal
	switch {
	case errors.As(err, &no) && no.locked():
		return fmt.Errorf("the account of access key %s is locked after too many refused signatures: "+
			"wait a minute, then check secret_key (or OSC_SECRET_KEY): %w", c.access.AccessKey, err)
	case errors.As(err, &no) && no.badKeys():
		return fmt.Errorf("the Outscale API at %s refuses the access key %s: check access_key and secret_key "+
			"(or OSC_ACCESS_KEY and OSC_SECRET_KEY), and that they belong to region %s: %w",
			c.access.Endpoint, c.access.AccessKey, c.access.Region, err)
	case errors.As(err, &no), errors.Is(err, context.Canceled):
		return err
	}
	return fmt.Errorf("cannot reach the Outscale API at %s: check custom_endpoint_oapi (or OSC_ENDPOINT_API), "+
		"region, and the network: %w", c.access.Endpoint, err)
}

// resolve fills what is empty from the environment, and checks what is there.
func (a Access) resolve() (Access, error) {
	fill(&a.AccessKey, "OSC_ACCESS_KEY")
	fill(&a.SecretKey, "OSC_SECRET_KEY")
	fill(&a.Region, "OSC_REGION")
	fill(&a.Endpoint, "OSC_ENDPOINT_API")
	fill(&a.MetadataEndpoint, "OSC_METADATA_ENDPOINT")
	if err := errors.Join(a.checkKeys(), a.findEndpoint()); err != nil {
		return a, err
	}
	return a, nil
}

func fill(s *string, variable string) {
	if *s == "" {
		*s = os.Getenv(variable)
	}
}

func (a *Access) checkKeys() error {
	switch {
	case a.AccessKey == "" && a.SecretKey == "":
		return errors.New("no keys for the Outscale API: set access_key and secret_key, or OSC_ACCESS_KEY and OSC_SECRET_KEY")
	case a.AccessKey == "":
		return errors.New("secret_key (or OSC_SECRET_KEY) is set, but access_key (or OSC_ACCESS_KEY) is not: they go together")
	case a.SecretKey == "":
		return errors.New("access_key (or OSC_ACCESS_KEY) is set, but secret_key (or OSC_SECRET_KEY) is not: they go together")
	}
	return nil
}

// outscaleHost is the host of Outscale's own endpoints; the group is the region.
var outscaleHost = regexp.MustCompile(`^api\.([a-z0-9-]+)\.outscale\.com$`)

// regionName is what a region's name looks like: it becomes part of a host name.
var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// findEndpoint completes region and endpoint from each other.
func (a *Access) findEndpoint() error {
	var errs []error
	for _, e := range []struct {
		option, path string
		to           *string
	}{
		{"custom_endpoint_oapi (or OSC_ENDPOINT_API)", "/api/v1", &a.Endpoint},
		{"the metadata endpoint (OSC_METADATA_ENDPOINT)", "", &a.MetadataEndpoint},
	} {
		if *e.to == "" {
			continue
		}
		u, err := parseEndpoint(*e.to, e.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is %q: %w", e.option, *e.to, err))
			continue
		}
		*e.to = u.String()
		if m := outscaleHost.FindStringSubmatch(u.Hostname()); m != nil && a.Region == "" {
			a.Region = m[1]
		}
	}
	return errors.Join(append(errs, a.checkRegion())...)
}

func (a *Access) checkRegion() error {
	switch {
	case a.Region == "":
		return errors.New("no region: set region, or OSC_REGION, such as eu-west-2")
	case !regionName.MatchString(a.Region):
		return fmt.Errorf("region (or OSC_REGION) is %q: not the name of a region", a.Region)
	case a.Endpoint == "":
		a.Endpoint = "https://api." + a.Region + ".outscale.com/api/v1"
	}
	return nil
}

// parseEndpoint reads a URL of the schemes http and https, or a host, for which
// https is meant. A URL without a path gets the given one.
func parseEndpoint(s, path string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, err
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the scheme %q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("there is no host in it")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("only a scheme, a host, a port and a path may be in it")
	}
	if u.Path = strings.TrimRight(u.Path, "/"); u.Path == "" {
		u.Path = path
	}
	return u, nil
}

// value is what p points to, or the zero value: an answer may lack any field.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
