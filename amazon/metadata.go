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
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// metadataAttempts is low: the service is on the same machine, and where it is
// not, the user should hear of it soon. The SDK bounds each attempt.
const metadataAttempts = 2

// newMetadata makes a client of the instance metadata service. Its endpoint is
// its own (AWS_EC2_METADATA_SERVICE_ENDPOINT), whatever serves EC2.
func newMetadata(cfg aws.Config) *imds.Client {
	return imds.NewFromConfig(cfg, func(o *imds.Options) {
		o.Retryer = retry.AddWithMaxAttempts(retry.NewStandard(), metadataAttempts)
	})
}

// identity is what the metadata say of this instance. Only instance is always
// there.
type identity struct {
	instance, zone, region string
}

// identity reads who this instance is from its identity document, or, where a
// cloud has none, from the single entries.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
func (c *Client) identity(ctx context.Context) (identity, error) {
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
	return fmt.Errorf("no metadata service: amazon-chroot must run on an EC2 instance (in a container, the instance "+
		"must allow the metadata a further hop); set AWS_EC2_METADATA_SERVICE_ENDPOINT where the service is elsewhere: %w", err)
}
