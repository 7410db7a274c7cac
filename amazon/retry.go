package amazon

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdkretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// operations holds the retry rules of each operation of AWS that a build makes. An error for which
// Passes is true wraps bake.ErrUnsettled, so the build repeats the call (bake/settle.go); unsettled.go
// marks the refusals that need a look at the resource too. Requests to the metadata service follow
// the SDK's own rules (metadata.go), a key is read in kms.go, and the EBS direct APIs have
// a table of their own (package ebsdirect).
var operations = retry.Table{
	"AssumeRole":                           {Repeat: retry.Reads, Apart: true},
	"AssumeRoleWithWebIdentity":            {Repeat: retry.Reads, Apart: true},
	"AttachVolume":                         {Repeat: retry.IsSet},
	"CopyImage":                            {Repeat: retry.HasToken, Passes: unknownSource},
	"CreateSnapshot":                       {Repeat: retry.CreatesAnother, First: time.Second}, // EC2 shows it after a while
	"CreateVolume":                         {Repeat: retry.HasToken},
	"DeleteSnapshot":                       {Repeat: retry.IsSet},
	"DeleteTags":                           {Repeat: retry.IsSet},
	"DeleteVolume":                         {Repeat: retry.IsSet},
	"DeregisterImage":                      {Repeat: retry.IsSet},
	"DescribeImageAttribute":               {Repeat: retry.Reads},
	"DescribeImages":                       {Repeat: retry.Reads},
	"DescribeInstances":                    {Repeat: retry.Reads},
	"DescribeRegions":                      {Repeat: retry.Reads},
	"DescribeSnapshots":                    {Repeat: retry.Reads},
	"DescribeVolumes":                      {Repeat: retry.Reads},
	"DetachVolume":                         {Repeat: retry.IsSet},
	"DisableImageDeregistrationProtection": {Repeat: retry.IsSet},
	"EnableImageDeprecation":               {Repeat: retry.IsSet},
	"EnableImageDeregistrationProtection":  {Repeat: retry.IsSet},
	"GetAllowedImagesSettings":             {Repeat: retry.Reads},
	"GetEbsDefaultKmsKeyId":                {Repeat: retry.Reads},
	"GetEbsEncryptionByDefault":            {Repeat: retry.Reads},
	"GetCallerIdentity":                    {Repeat: retry.Reads, Apart: true},
	"GetImageBlockPublicAccessState":       {Repeat: retry.Reads},
	"GetSnapshotBlockPublicAccessState":    {Repeat: retry.Reads},
	"ModifyImageAttribute":                 {Repeat: retry.IsSet},
	"ModifySnapshotAttribute":              {Repeat: retry.IsSet},
	"RegisterImage":                        {Repeat: retry.IsUnique},
}

// unknownSource reports whether CopyImage was refused because the region that it copies to does not
// know that the image is available, or that its snapshots are complete.
func unknownSource(err error) bool {
	return hasCode(err, codeImageNotFound, codeImageUnavailable) ||
		hasCode(err, codeInvalidRequest) && strings.Contains(messageOf(err), "storage for the ami is not available")
}

// newPolicy returns the policy by which calls are made again; retries is max_retries.
//
// AWS_MAX_ATTEMPTS has no influence: to users of chroot builders it is the number of times to
// look while waiting for a state, and that number is far too large here.
func (c *Client) newPolicy() retry.Policy {
	p := retry.Policy{WaitLimit: c.waitLimit, Reached: c.reached.Load}
	if c.access.MaxRetries > 0 {
		p.Attempts = 1 + c.access.MaxRetries
	}
	return p
}

// again returns an operation of EC2 that is made again by the client's policy. The SDK
// itself makes each attempt once: its quota of retries would end the attempts early.
func again[In, Out any](c *Client, op func(context.Context, *In, ...func(*ec2.Options)) (*Out, error)) call[In, Out] {
	action := strings.TrimSuffix(reflect.TypeFor[In]().Name(), "Input")
	made := retry.Call{Service: ec2.ServiceID, Action: action, Kind: kindOf}
	if operations[action].Repeat == retry.CreatesAnother {
		made.Kind = kindWithoutDoubt // see Client.do
	}
	return func(ctx context.Context, in *In) (out *Out, err error) {
		err = c.policy.Do(ctx, made, func(ctx context.Context) error {
			out, err = op(ctx, in)
			return err
		})
		return out, unsettledIf(operations.Passes(action, err), err)
	}
}

// do makes an operation by the client's policy and the table.
func (c *Client) do(ctx context.Context, service, action string, try func(context.Context) error) error {
	err := operations.For(action, c.policy).Do(ctx, retry.Call{Service: service, Action: action, Kind: kindOf}, try)
	return unsettledIf(operations.Passes(action, err), err)
}

// kindWithoutDoubt is kindOf for a call that is not made again if it may have had its effect.
func kindWithoutDoubt(err error) retry.Kind {
	if kind := kindOf(err); !kind.Doubtful() {
		return kind
	}
	return retry.Permanent
}

// kindOf classifies an error of AWS.
func kindOf(err error) retry.Kind {
	status := statusOf(err)
	switch {
	case hopeless(err):
		return retry.Permanent
	case status == http.StatusTooManyRequests || isThrottled(err):
		return retry.Throttled
	case builder.Unreached(err):
		return retry.Unreached
	case hasCode(err, timeoutCodes...), errors.Is(err, io.ErrUnexpectedEOF), isConnection(err):
		return retry.Lost
	case slices.Contains(faultStatuses, status):
		return retry.Fault
	case isSkewed(err):
		return retry.Skewed
	}
	return retry.Permanent
}

var (
	timeoutCodes  = []string{"RequestTimeout", "RequestTimeoutException"}
	faultStatuses = []int{http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
)

// isThrottled reports whether AWS refused a request because of too many.
func isThrottled(err error) bool {
	_, is := sdkretry.DefaultThrottleErrorCodes[codeOf(err)]
	return is
}

// hopeless reports whether an error looks like one that passes and is none: a certificate
// that is not trusted, an answer that is not TLS, a host that does not exist, or a lack of
// capacity, which EC2 answers with status 500.
func hopeless(err error) bool {
	var certificate *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	var host *net.DNSError
	return errors.As(err, &certificate) || errors.As(err, &plain) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &host) && host.IsNotFound || strings.HasPrefix(codeOf(err), "Insufficient")
}

// isConnection reports whether a connection broke, or nothing came over it in time.
func isConnection(err error) bool {
	return sdkretry.RetryableConnectionError{}.IsErrorRetryable(err) == aws.TrueTernary
}

// isSkewed reports whether the SDK has learned from the answer how far this machine's
// clock is off, and signs the next request accordingly.
func isSkewed(err error) bool {
	return sdkretry.RetryableError{}.IsErrorRetryable(err) == aws.TrueTernary
}
