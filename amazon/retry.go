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
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// lookPause is the first pause before the effect of a lost call is looked for.
const lookPause = time.Second

// newPolicy returns the policy by which calls are made again; retries is max_retries.
//
// AWS_MAX_ATTEMPTS has no influence: to users of chroot builders it says how often to
// look while waiting for a state, and what is right there is far too much here.
func (c *Client) newPolicy() retry.Policy {
	p := retry.Policy{Patience: c.access.Patience, Reached: c.reached.Load}
	if c.access.MaxRetries > 0 {
		p.Attempts = 1 + c.access.MaxRetries
	}
	return p
}

// manner is how one call is made again, if not as most are.
type manner struct {
	// sure does not make a call again that may have had its effect.
	sure bool
}

// surely is for a call that creates a second resource when it is made twice.
func surely(m *manner) { m.sure = true }

// kind classifies an error of a call that is made in this manner.
func (m manner) kind(err error) retry.Kind {
	kind := kindOf(err)
	if m.sure && kind.Doubtful() {
		return retry.Permanent
	}
	return kind
}

// again returns an operation of EC2 that is made again by the client's policy. The SDK
// itself makes each attempt once: its quota of retries would end the attempts early.
func again[In, Out any](c *Client, op func(context.Context, *In, ...func(*ec2.Options)) (*Out, error)) call[In, Out] {
	action := strings.TrimSuffix(reflect.TypeFor[In]().Name(), "Input")
	return func(ctx context.Context, in *In, opts ...func(*manner)) (out *Out, err error) {
		var m manner
		for _, opt := range opts {
			opt(&m)
		}
		err = c.policy.Do(ctx, retry.Call{Service: ec2.ServiceID, Action: action, Kind: m.kind}, func(ctx context.Context) error {
			out, err = op(ctx, in)
			return err
		})
		return out, err
	}
}

// afterLooking does a call that must not be made twice: try looks for the effect of an
// earlier attempt before it makes the call. The pauses are longer than others, because EC2
// does not tell at once of what it has made.
func (c *Client) afterLooking(ctx context.Context, action string, try func(context.Context) error) error {
	policy := c.policy
	policy.First = lookPause
	return policy.Do(ctx, retry.Call{Service: ec2.ServiceID, Action: action, Kind: kindOf}, try)
}

// againSTS does a request to STS by the client's policy.
func (c *Client) againSTS(ctx context.Context, action string, try func(context.Context) error) error {
	policy := c.policy
	policy.Reached = func() bool { return false } // as far as EC2's answers tell
	return policy.Do(ctx, retry.Call{Service: sts.ServiceID, Action: action, Kind: kindOf}, try)
}

// kindOf classifies an error of AWS.
func kindOf(err error) retry.Kind {
	status := statusOf(err)
	switch {
	case hopeless(err):
		return retry.Permanent
	case status == http.StatusTooManyRequests || isThrottled(err):
		return retry.Throttled
	case isDial(err):
		return retry.Unreached
	case hasCode(err, timeoutCodes...), errors.Is(err, io.ErrUnexpectedEOF), isConnection(err):
		return retry.Lost
	case slices.Contains(faultStatuses, status):
		return retry.Fault
	case isSkewed(err):
		return retry.Unsettled
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

// isDial reports whether no connection was established.
func isDial(err error) bool {
	var connecting *net.OpError
	return errors.As(err, &connecting) && connecting.Op == "dial"
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
