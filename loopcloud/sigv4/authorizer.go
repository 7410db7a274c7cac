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

// The services that clients of EC2, STS and KMS sign for.
const (
	EC2 = "ec2"
	STS = "sts"
	KMS = "kms"
)

// An Authorizer says on whose behalf, and where, a request is made, or refuses
// it with an error of this package. Service names the wire format that asks:
// EC2, STS, KMS, or anything else for the Outscale API.
type Authorizer = func(r *http.Request, body []byte, service string) (state.Caller, error)

// Directory knows the keys and the regions: *state.Cloud.
type Directory interface {
	Key(id string) (state.Key, bool)
	Regions() []state.Region
	DefaultRegion() string
}

// NewAuthorizer makes an Authorizer that maps an access key to its account, and
// the scope's region to one of the cloud's.
//
// EC2, STS and KMS are strict about the scope: their service and a region that exists.
// The Outscale API is not, for clients in use sign with the region and service osc
// as with the fixed eu-west-2 and oapi: a region unknown there is the default
// one.
//
// The time is the machine's, not the cloud's, whose clock a test may drive
// while its clients sign with the real one; or it is the Directory's own, if that is
// a Clock.
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

// Clock is a Directory that has a time of its own by which signatures are judged.
type Clock interface{ WireTime() time.Time }

func timeBy(dir Directory) time.Time {
	if c, ok := dir.(Clock); ok {
		return c.WireTime()
	}
	return time.Now()
}

// regionOf is the region that a scope names, as far as the service minds.
func regionOf(dir Directory, credential Credential, service string) (string, error) {
	known := slices.ContainsFunc(dir.Regions(), func(r state.Region) bool { return r.Name == credential.Region })
	strict := service == EC2 || service == STS || service == KMS
	switch {
	case strict && (credential.Service != service || !known):
		return "", fmt.Errorf("%w: %s", ErrScope, credential.scope())
	case !known:
		return dir.DefaultRegion(), nil
	default:
		return credential.Region, nil
	}
}

// tokenName is the header, or the parameter of a presigned address, with the token
// of a session.
const tokenName = "X-Amz-Security-Token"

// checkSession refuses keys of a session that come without its token, or after its
// end.
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

// KeyID is the access key that a request says it was signed with, empty if it
// says none.
func KeyID(r *http.Request) string {
	s, err := signatureOf(r, r.URL.Query())
	if err != nil {
		return ""
	}
	return s.KeyID
}
