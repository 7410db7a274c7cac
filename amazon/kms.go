package amazon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// keyManager returns the manager of a key, as KMS of the region says. KMS is asked once and not
// for long: the permission may be missing, and it may be unreachable.
func (c *Client) keyManager(ctx context.Context, key string) keyHolder {
	endpoint := c.keyService(ctx)
	if endpoint == "" {
		return managerUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	described, _ := c.describeKey(ctx, endpoint, key) // an error is an unknown manager
	switch described.KeyManager {
	case "AWS":
		return managedByAWS
	case "CUSTOMER":
		return managedByCustomer
	default:
		return managerUnknown
	}
}

// keyMetadata is a key as KMS describes it.
// Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_DescribeKey.html
type keyMetadata struct {
	// KeyManager is AWS or CUSTOMER.
	KeyManager string
	Arn        string
}

// describeKey asks KMS for a key.
func (c *Client) describeKey(ctx context.Context, endpoint, key string) (described keyMetadata, err error) {
	begun := time.Now()
	defer func() {
		event.Emit(ctx, event.Call{Service: "KMS", Action: "DescribeKey", Attempt: 1, Took: time.Since(begun), Err: err})
	}()
	body, err := json.Marshal(map[string]string{"KeyId": key})
	if err != nil {
		return described, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return described, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
	keys, err := c.config.Credentials.Retrieve(ctx)
	if err != nil {
		return described, err
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, r, hex.EncodeToString(sum[:]), "kms", c.Region(), time.Now()); err != nil {
		return described, err
	}
	answer, err := c.config.HTTPClient.Do(r)
	if err != nil {
		return described, err
	}
	defer answer.Body.Close()
	return decodeKey(answer)
}

// arnOfKey returns the ARN of a key of this account and region, which the EBS direct APIs want. The key
// behind an alias is known to KMS only, so faults of KMS that pass are repeated.
func (c *Client) arnOfKey(ctx context.Context, account, key string) (string, error) {
	arn := func(rest string) string {
		return fmt.Sprintf("arn:%s:kms:%s:%s:%s", partitionOf(c.Region()), c.Region(), account, rest)
	}
	switch {
	case !strings.Contains(key, "alias/") && strings.HasPrefix(key, "arn:"):
		return key, nil
	case !strings.Contains(key, "alias/"):
		return arn("key/" + key), nil
	}
	endpoint := c.keyService(ctx)
	if endpoint == "" {
		return "", fmt.Errorf("cannot find out the key of %s: custom_endpoint_ec2 is for EC2 alone, so set AWS_ENDPOINT_URL_KMS too, or give the ARN of a key", key)
	}
	var described keyMetadata
	call := retry.Call{Service: "KMS", Action: "DescribeKey", Kind: kindOfKey}
	policy := c.policy
	policy.Reached = nil // it is that of EC2
	err := policy.Do(ctx, call, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, builder.ResponseLimit(builder.FirstByteTimeout, c.waitLimit))
		defer cancel()
		if described, err = c.describeKey(ctx, endpoint, key); err == nil && described.Arn == "" {
			err = errNoKey
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot find out the key of %s: %w (the keys need the permission kms:DescribeKey, or give the ARN of a key)", key, err)
	}
	return described.Arn, nil
}

// errNoKey is the error for a response that has no key.
var errNoKey = errors.New("KMS answered without an ARN")

// keyError is an error response of KMS.
type keyError struct {
	code         int
	status, text string
}

// Error implements error.
func (r *keyError) Error() string { return fmt.Sprintf("KMS answered %s: %.200q", r.status, r.text) }

// kindOfKey classifies an error of describeKey.
func kindOfKey(err error) retry.Kind {
	var refused *keyError
	switch {
	case errors.As(err, &refused) && refused.code >= http.StatusInternalServerError:
		return retry.Fault
	case errors.As(err, &refused) && strings.Contains(refused.text, "Throttl"):
		return retry.Throttled
	case errors.As(err, &refused), hopeless(err):
		return retry.Permanent
	case builder.Unreached(err):
		return retry.Unreached
	}
	return retry.Lost // no response, or not a whole one
}

// maxKeyAnswer is the limit in bytes of a DescribeKey response, which is far smaller.
const maxKeyAnswer = 1 << 16

func decodeKey(answer *http.Response) (keyMetadata, error) {
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxKeyAnswer))
	if err != nil {
		return keyMetadata{}, err
	}
	if answer.StatusCode != http.StatusOK {
		return keyMetadata{}, &keyError{answer.StatusCode, answer.Status, string(text)}
	}
	var told struct{ KeyMetadata keyMetadata }
	err = json.Unmarshal(text, &told)
	return told.KeyMetadata, err
}

// keyService returns the endpoint of KMS in the region: that of the environment, or the one beside
// EC2's own endpoint, in any partition. It is empty if EC2 has another endpoint, because nothing
// then names KMS.
func (c *Client) keyService(ctx context.Context) string {
	if own := os.Getenv("AWS_ENDPOINT_URL_KMS"); own != "" {
		return own
	}
	if c.config.BaseEndpoint != nil {
		return *c.config.BaseEndpoint
	}
	o := ec2.NewFromConfig(c.config, c.settings(c.Region())).Options()
	if o.BaseEndpoint != nil {
		return ""
	}
	found, err := ec2.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, ec2.EndpointParameters{
		Region:       aws.String(c.Region()),
		UseFIPS:      aws.Bool(o.EndpointOptions.UseFIPSEndpoint == aws.FIPSEndpointStateEnabled),
		UseDualStack: aws.Bool(o.EndpointOptions.UseDualStackEndpoint == aws.DualStackEndpointStateEnabled),
	})
	if err != nil {
		return ""
	}
	return besideEC2(found.URI)
}

// besideEC2 turns an endpoint of EC2 into that of KMS: both have the service's name
// first, and -fips behind it or not.
func besideEC2(u url.URL) string {
	rest, ok := strings.CutPrefix(u.Host, "ec2")
	if !ok {
		return ""
	}
	u.Host = "kms" + rest
	return u.String()
}
