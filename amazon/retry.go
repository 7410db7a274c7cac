package amazon

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

const (
	// maxRetries and the pauses between them give a throttled or flickering
	// endpoint about seven seconds.
	maxRetries   = 6
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// slower is how many times as long the pauses are where EC2 has yet to tell of
	// what it has made.
	slower = 8
)

// policy is how requests to EC2 are tried again.
type policy struct {
	// full tries again after throttling and after faults of the transport and of
	// the server. It is for calls that may be made twice.
	full aws.Retryer
	// sure tries again only where the request certainly had no effect: it was
	// throttled, or no connection came about. It is for calls that create a second
	// thing when made twice.
	sure aws.Retryer
	// first is the pause after the first attempt, about.
	first time.Duration
	// attempts is how often a request is made at most.
	attempts int
}

// newPolicy makes the policy whose first pause is this long, and which tries this
// often again; 0 means maxRetries.
//
// AWS_MAX_ATTEMPTS is not heeded: to users of chroot builders it says how often to
// look while waiting for a state, and what is right there is far too much here.
func newPolicy(first time.Duration, retries int) policy {
	p := policy{first: first, attempts: 1 + cmp.Or(retries, maxRetries)}
	hopeful := append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(hope)}, retry.DefaultRetryables...)
	p.full = p.retryer(hopeful)
	p.sure = p.retryer([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(unsure)})
	return p
}

// retryer is the SDK's standard retryer with our pauses.
func (p policy) retryer(checks []retry.IsErrorRetryable) aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = p.attempts
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			return pause(p.first, attempt), nil
		})
		o.Retryables = checks
	})
}

// pause doubles from first to longestPause, less up to a half at random, so that
// builds that were throttled together do not come back together. The first
// attempt is 1.
func pause(first time.Duration, attempt int) time.Duration {
	full := first
	for range attempt - 1 {
		full = min(2*full, longestPause)
	}
	return full - rand.N(full/2)
}

// hope corrects the SDK where it misjudges: it would try again what cannot get
// better (a certificate that is not trusted, an answer that is not TLS), and
// would give up on an answer that breaks off.
func hope(err error) aws.Ternary {
	var certificate *tls.CertificateVerificationError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &certificate), errors.As(err, &plain), errors.Is(err, http.ErrSchemeMismatch):
		return aws.FalseTernary
	case errors.Is(err, io.ErrUnexpectedEOF):
		return aws.TrueTernary
	default:
		return aws.UnknownTernary
	}
}

// unsure allows another try only after throttling and after a failure to
// connect.
func unsure(err error) aws.Ternary {
	if _, throttled := retry.DefaultThrottleErrorCodes[codeOf(err)]; throttled {
		return aws.TrueTernary
	}
	var connecting *net.OpError
	if errors.As(err, &connecting) && connecting.Op == "dial" {
		return aws.TrueTernary
	}
	return aws.FalseTernary
}

// lost tells whether a request that was not tried again may have had an effect
// all the same: its answer is lost, or the server failed in the middle.
func (p policy) lost(err error) bool {
	return p.full.IsErrorRetryable(err) && !p.sure.IsErrorRetryable(err)
}
