package amazon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// metadataAttempts is low: the service is on the same machine, and where it is
// not, the user should hear of it soon. The SDK bounds each attempt.
const metadataAttempts = 2

// newMetadata makes a client of the instance metadata service. Its endpoint is
// its own (AWS_EC2_METADATA_SERVICE_ENDPOINT), whatever serves EC2, and it is
// asked without a proxy: behind one there would be another machine's.
func newMetadata(cfg aws.Config) *imds.Client {
	return imds.NewFromConfig(cfg, func(o *imds.Options) {
		o.Retryer = retry.AddWithMaxAttempts(retry.NewStandard(), metadataAttempts)
		o.HTTPClient = brief{next: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.Proxy = nil })}
	})
}

// identity is what the metadata say of this instance. Only instance is always
// there.
type identity struct {
	instance, zone, region string
}

// regionHere is the region of this instance, for a configuration that names none.
func (c *Client) regionHere(ctx context.Context) (string, error) {
	if c.access.InstanceID != "" {
		return "", errors.New("no region is given: with instance_id the metadata are not asked for it: set region, AWS_REGION, or a profile's region")
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

// identity tells who this instance is: what instance_id says, or else its identity
// document, or, where a cloud has none, the single entries.
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
		return identity{}, noMetadata(err)
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
			return identity{}, noMetadata(err)
		}
		*e.value = value
	}
	if here.instance == "" {
		return identity{}, errors.New("the metadata service does not say which instance this is (instance-id)")
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

// absent tells whether the service answered that it has no such entry.
func absent(err error) bool {
	var answer *smithyhttp.ResponseError
	return errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusNotFound
}

// noMetadata says what to do when the metadata service does not answer.
func noMetadata(err error) error {
	return fmt.Errorf("no metadata service: amazon-chroot must run on an EC2 instance; in a container, raise the instance's "+
		"metadata hop limit to 2, or give instance_id and region; set AWS_EC2_METADATA_SERVICE_ENDPOINT where the service is elsewhere: %w", err)
}
