package sigv4

import (
	"cmp"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The services that clients of EC2, the EBS direct APIs, STS and KMS sign for.
const (
	EC2 = "ec2"
	EBS = "ebs"
	STS = "sts"
	KMS = "kms"
)

// Authorizer returns the account and the region of a request, or an error of this package.
// Service is EC2, EBS, STS, KMS, or anything else for the Outscale API.
type Authorizer = func(r *http.Request, body []byte, service string) (state.Caller, error)

// Directory returns the keys and the regions. *state.Cloud is one.
type Directory interface {
	Key(id string) (state.Key, bool)
	Regions() []state.Region
	DefaultRegion() string
}

// NewAuthorizer returns an Authorizer that maps an access key to its account, and the region of
// the scope to a region of the cloud.
//
// For EC2, EBS, STS and KMS the scope must have their service name and an existing region. The
// Outscale API does not check the scope, because some clients sign with the region and service
// osc, others with the fixed eu-west-2 and oapi: an unknown region becomes the default one.
//
// The time is that of the machine, because a test may advance the cloud's clock while its clients
// sign with the real one. If the Directory is a Clock, it is the Clock's time.
func NewAuthorizer(dir Directory) Authorizer {
	secret := func(id string) (string, bool) {
		key, ok := dir.Key(id)
		return key.Secret, ok
	}
	return func(r *http.Request, body []byte, service string) (state.Caller, error) {
		credential, err := Verify(r, body, timeBy(dir), secret)
		if err != nil {
			return state.Caller{}, err
		}
		region, err := regionOf(dir, credential, service)
		if err != nil {
			return state.Caller{}, err
		}
		key, _ := dir.Key(credential.KeyID)
		if err := checkSession(r, key.Session, timeBy(dir)); err != nil {
			return state.Caller{}, err
		}
		return state.Caller{Account: key.Account, Region: region}, nil
	}
}

// Clock is a Directory with its own time for verifying signatures.
type Clock interface{ WireTime() time.Time }

func timeBy(dir Directory) time.Time {
	if c, ok := dir.(Clock); ok {
		return c.WireTime()
	}
	return time.Now()
}

// regionOf returns the region of a scope, or an error if the service does not accept the scope.
func regionOf(dir Directory, credential Credential, service string) (string, error) {
	known := slices.ContainsFunc(dir.Regions(), func(r state.Region) bool { return r.Name == credential.Region })
	strict := slices.Contains([]string{EC2, EBS, STS, KMS}, service)
	switch {
	case strict && (credential.Service != service || !known):
		return "", fmt.Errorf("%w: %s", ErrScope, credential.scope())
	case !known:
		return dir.DefaultRegion(), nil
	default:
		return credential.Region, nil
	}
}

// tokenName is the header, or the parameter of a presigned URL, that holds a session token.
const tokenName = "X-Amz-Security-Token"

// checkSession returns an error if a request with temporary keys lacks their token or the session
// has expired.
func checkSession(r *http.Request, session *state.Session, now time.Time) error {
	if session == nil {
		return nil
	}
	token := cmp.Or(r.Header.Get(tokenName), r.URL.Query().Get(tokenName))
	if subtle.ConstantTimeCompare([]byte(token), []byte(session.Token)) != 1 {
		return ErrToken
	}
	if !now.Before(session.Until) {
		return fmt.Errorf("%w: %s", ErrSessionEnded, session.Until.UTC().Format(time.RFC3339))
	}
	return nil
}

// KeyID returns the access key in a request's signature, "" if the request is not signed.
func KeyID(r *http.Request) string {
	s, err := signatureOf(r, r.URL.Query())
	if err != nil {
		return ""
	}
	return s.KeyID
}
