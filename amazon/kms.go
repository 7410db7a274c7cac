package amazon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
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

	"github.com/packer-chroot/packer-plugin-chroot/event"
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
	begun := time.Now()
	manager, err := c.describeKey(ctx, endpoint, key)
	event.Emit(ctx, event.Call{Service: "KMS", Action: "DescribeKey", Attempt: 1, Took: time.Since(begun), Err: err})
	switch manager {
	case "AWS":
		return managedByAWS
	case "CUSTOMER":
		return managedByCustomer
	default:
		return managerUnknown
	}
}

// describeKey returns the manager of a key in KMS's words.
// Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_DescribeKey.html
func (c *Client) describeKey(ctx context.Context, endpoint, key string) (manager string, err error) {
	body, err := json.Marshal(map[string]string{"KeyId": key})
	if err != nil {
		return "", err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
	keys, err := c.config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, keys, r, hex.EncodeToString(sum[:]), "kms", c.Region(), time.Now()); err != nil {
		return "", err
	}
	answer, err := c.config.HTTPClient.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	return managerIn(answer)
}

// maxKeyAnswer is the limit in bytes of a DescribeKey response, which is far smaller.
const maxKeyAnswer = 1 << 16

func managerIn(answer *http.Response) (string, error) {
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxKeyAnswer))
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("KMS answered %s: %.200q", answer.Status, text)
	}
	var told struct{ KeyMetadata struct{ KeyManager string } }
	err = json.Unmarshal(text, &told)
	return told.KeyMetadata.KeyManager, err
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
