package amazon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// The service is on the same machine, so that a user hears of its faults soon. A question
// is a request for a token and one for the entry, and neither is repeated when it times
// out: an answer with the token that is lost on its way to a container is lost every time.
const (
	// metadataAnswer bounds a request. A service that is busy takes a second now and then.
	metadataAnswer = 2 * time.Second
	// metadataDial bounds the connection: a slower service is not on this machine.
	metadataDial = time.Second
	// metadataAttempts is how often a request is made that the service could not answer
	// for the moment.
	metadataAttempts = 2
)

// A metadataTransport asks the instance metadata service, and remembers two facts that the SDK
// does not report: whether the request for a token timed out (the SDK then goes on with version 1
// of the service), and whether the service requires one.
type metadataTransport struct {
	boundedClient
	limit time.Duration
	// lost says that the answer with the token did not come.
	lost atomic.Bool
	// wanted says that the last question was refused for want of a token.
	wanted atomic.Bool
}

// Do implements aws.HTTPClient.
func (m *metadataTransport) Do(r *http.Request) (*http.Response, error) {
	resp, err := m.boundedClient.Do(r)
	if r.Method == http.MethodPut {
		m.lost.Store(builder.Unanswered(err))
	} else {
		m.wanted.Store(err == nil && resp.StatusCode == http.StatusUnauthorized)
	}
	return resp, err
}

// newMetadata returns a client of the instance metadata service. It has an endpoint of its own
// (AWS_EC2_METADATA_SERVICE_ENDPOINT) and uses no proxy: behind one there would be another
// machine's.
func newMetadata(cfg aws.Config, waitLimit time.Duration) (*imds.Client, *metadataTransport) {
	transport := &metadataTransport{limit: builder.ResponseLimit(metadataAnswer, waitLimit)}
	transport.next = awshttp.NewBuildableClient().WithTimeout(transport.limit).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = builder.ResponseLimit(metadataDial, waitLimit) }).
		WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })
	return imds.NewFromConfig(cfg, func(o *imds.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = metadataAttempts
			o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(transport.hopeless)}, o.Retryables...)
		})
		o.HTTPClient = transport
	}), transport
}

// hopeless ends retries of the SDK that cannot succeed: after a timeout, and without the token
// that was lost.
func (m *metadataTransport) hopeless(err error) aws.Ternary {
	var timeout net.Error
	if m.wanted.Load() || builder.Unreached(err) || errors.As(err, &timeout) && timeout.Timeout() {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// identity is this instance as the metadata describe it. Only the ID is always there.
type identity struct {
	instance, zone, region string
}

// regionHere is the region of this instance, for a configuration that names none.
func (c *Client) regionHere(ctx context.Context) (string, error) {
	if c.direct && c.access.SkipMetadataAPICheck {
		return "", errors.New("no region is given: with skip_metadata_api_check the metadata are not asked for it: set region, AWS_REGION, or a profile's region")
	}
	if c.access.InstanceID != "" {
		return "", errors.New("no region is given: with instance_id the metadata are not asked for it: set region, AWS_REGION, or a profile's region")
	}
	here, err := c.identity(ctx)
	if err != nil && c.direct {
		return "", fmt.Errorf("no region is given, and this is not an instance whose metadata name one: set region, AWS_REGION, or a profile's region: %w", err)
	}
	if err != nil {
		return "", fmt.Errorf("no region is given: set region, AWS_REGION, or a profile's region: %w", err)
	}
	if here.region == "" {
		return "", errors.New("no region is given, and the instance's metadata name none: set region, or AWS_REGION")
	}
	return here.region, nil
}

// identity returns this instance: instance_id, or else its identity document, or, in a cloud
// without one, the single entries.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
func (c *Client) identity(ctx context.Context) (identity, error) {
	if c.access.InstanceID != "" {
		return identity{instance: c.access.InstanceID, region: c.config.Region}, nil
	}
	doc, err := c.metadata.GetInstanceIdentityDocument(ctx, nil)
	if err == nil && doc.InstanceID != "" {
		return identity{instance: doc.InstanceID, zone: doc.AvailabilityZone, region: doc.Region}, nil
	}
	if err != nil && !absent(err) {
		return identity{}, c.noMetadata(err)
	}
	return c.identityByEntry(ctx)
}

func (c *Client) identityByEntry(ctx context.Context) (identity, error) {
	var here identity
	entries := []struct {
		path  string
		value *string
	}{
		{"instance-id", &here.instance},
		{"placement/availability-zone", &here.zone},
		{"placement/region", &here.region},
	}
	for _, e := range entries {
		value, err := c.entry(ctx, e.path)
		if err != nil && !absent(err) {
			return identity{}, c.noMetadata(err)
		}
		*e.value = value
	}
	if here.instance == "" {
		return identity{}, c.noMetadata(errors.New("it does not say which instance this is (instance-id)"))
	}
	return here, nil
}

// entry reads one entry below /latest/meta-data.
func (c *Client) entry(ctx context.Context, path string) (string, error) {
	out, err := c.metadata.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if err != nil {
		return "", err
	}
	defer out.Content.Close()
	value, err := io.ReadAll(io.LimitReader(out.Content, 4096))
	return strings.TrimSpace(string(value)), err
}

// absent reports whether the service answered that it has no such entry.
func absent(err error) bool {
	var answer *smithyhttp.ResponseError
	return errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusNotFound
}

// noMetadata returns the error of a failed request to the metadata service, with advice.
func (c *Client) noMetadata(err error) error {
	if c.direct {
		return fmt.Errorf("no metadata service: %w", err)
	}
	return fmt.Errorf("no metadata service: %s; or give instance_id and region, with which it is not asked; "+
		"or set ebs_direct and region, with which no instance is needed: %w", c.metadataFault(err), err)
}

// metadataFault returns the cause of a failed request to the metadata service, with advice.
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html,
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-IMDS-existing-instances.html
func (c *Client) metadataFault(err error) string {
	const modify = "aws ec2 modify-instance-metadata-options --instance-id ID"
	status := statusOf(err)
	switch {
	case strings.EqualFold(os.Getenv(noMetadataEnv), "true"):
		return "it is not asked, because " + noMetadataEnv + " is true: amazon-chroot must run on an EC2 instance; unset the variable"
	case c.asked.wanted.Load() && c.asked.lost.Load():
		return fmt.Sprintf("it wants a token (IMDSv2), and its answer with the token did not arrive within %s. In a container that is because of "+
			"the hop limit: raise it with `%s --http-put-response-hop-limit 2`, or give the container the host's network", c.asked.limit, modify)
	case c.asked.wanted.Load():
		return "it wants a token (IMDSv2), and gives none: check what stands between, such as a proxy of metadata"
	case status == http.StatusForbidden:
		return fmt.Sprintf("it is turned off for this instance, or a proxy of metadata refuses the question: turn it on with `%s --http-endpoint enabled`", modify)
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests:
		return fmt.Sprintf("it is overloaded (HTTP status %d): try again, and have fewer programs ask it", status)
	case builder.Unanswered(err):
		return fmt.Sprintf("it takes connections, and did not answer within %s: it is overloaded, or a firewall drops its answers. "+
			"In a container, raise the hop limit with `%s --http-put-response-hop-limit 2`", c.asked.limit, modify)
	}
	return "amazon-chroot must run on an EC2 instance, from which the service can be reached; set AWS_EC2_METADATA_SERVICE_ENDPOINT if it is elsewhere"
}

// noMetadataEnv is the SDK's variable that turns the metadata off.
const noMetadataEnv = "AWS_EC2_METADATA_DISABLED"
