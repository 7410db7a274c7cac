package osc

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Access holds keys, region and endpoints. Each empty field is filled from the profile, if one is
// named, then from the environment, then from the default profile.
type Access struct {
	// AccessKey and SecretKey go together: OSC_ACCESS_KEY, OSC_SECRET_KEY.
	AccessKey, SecretKey string
	// Profile is the name of a profile in the configuration file: OSC_PROFILE.
	Profile string
	// Region is a region's name, such as eu-west-2: OSC_REGION. It may be left
	// out where the endpoint is of the form api.REGION.outscale.com.
	Region string
	// Endpoint is a URL, or a host without a scheme, of the API: OSC_ENDPOINT_API.
	// Without a path it gets /api/v1. Empty means Outscale's own for the region.
	Endpoint string
	// Certificate is shown to the API, if it is given: OSC_X509_CLIENT_CERT,
	// OSC_X509_CLIENT_KEY.
	Certificate Certificate
	// InsecureSkipTLSVerify accepts any certificate of the API: OSC_TLS_SKIP_VERIFY.
	InsecureSkipTLSVerify bool
	// MetadataEndpoint is the URL of the metadata service: OSC_METADATA_ENDPOINT.
	// Empty means the link-local address of every VM.
	MetadataEndpoint string
	// VMID is the VM that this program runs on. Then its metadata is not asked.
	VMID string
	// WaitLimit is the time limit of a call and its retries. 0 means the limits of the
	// retry policy.
	WaitLimit time.Duration

	// regionFrom says where Region was found, if it was not given.
	regionFrom string
}

// secrets returns the values that must not be logged.
func (a Access) secrets() []string {
	return []string{a.AccessKey, a.SecretKey, a.Certificate.KeyBase64}
}

// Certificate is a client's certificate and its key, as paths of PEM files, or as
// PEM itself, in base64.
type Certificate struct {
	CertPath, KeyPath     string
	CertBase64, KeyBase64 string
}

func (c Certificate) isZero() bool { return c == Certificate{} }

// load returns the client certificate for TLS; none if none is given.
func (c Certificate) load() ([]tls.Certificate, error) {
	switch {
	case c.isZero():
		return nil, nil
	case c.CertPath == "" && c.CertBase64 == "":
		return nil, errors.New("x509_key_path (or OSC_X509_CLIENT_KEY) is given, but x509_cert_path (or OSC_X509_CLIENT_CERT) is not: they go together")
	case c.KeyPath == "" && c.KeyBase64 == "":
		return nil, errors.New("x509_cert_path (or OSC_X509_CLIENT_CERT) is given, but x509_key_path (or OSC_X509_CLIENT_KEY) is not: they go together")
	}
	cert, err := pemOf(c.CertPath, c.CertBase64)
	if err != nil {
		return nil, fmt.Errorf("cannot read the client certificate (x509_cert_path): %w", err)
	}
	key, err := pemOf(c.KeyPath, c.KeyBase64)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key of the client certificate (x509_key_path): %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the client certificate %s and its key %s (x509_cert_path, x509_key_path) cannot be used: %w",
			c.CertPath, c.KeyPath, err)
	}
	return []tls.Certificate{pair}, nil
}

func pemOf(path, encoded string) ([]byte, error) {
	if path != "" {
		return os.ReadFile(path)
	}
	return base64.StdEncoding.DecodeString(encoded)
}

// origin is one place where access is told, in the words of its own names.
type origin struct {
	access Access
	// accessKey, secretKey and region are the names of these settings in that source.
	accessKey, secretKey, region string
}

// fromEnvironment are the variables of today, and the names that they had
// before, which are looked at one by one where today's are not set.
func fromEnvironment() origin {
	env := func(names ...string) string {
		for _, name := range names {
			if v := os.Getenv(name); v != "" {
				return v
			}
		}
		return ""
	}
	skip, _ := strconv.ParseBool(strings.ToLower(os.Getenv("OSC_TLS_SKIP_VERIFY")))
	return origin{
		accessKey: "OSC_ACCESS_KEY", secretKey: "OSC_SECRET_KEY", region: "the environment (OSC_REGION)",
		access: Access{
			AccessKey: env("OSC_ACCESS_KEY", "OUTSCALE_ACCESSKEYID"),
			SecretKey: env("OSC_SECRET_KEY", "OUTSCALE_SECRETKEYID"),
			Region:    env("OSC_REGION", "OUTSCALE_REGION"),
			Endpoint:  env("OSC_ENDPOINT_API", "OUTSCALE_OAPI_URL"),
			Certificate: Certificate{
				CertPath:   env("OSC_X509_CLIENT_CERT", "OUTSCALE_X509CERT"),
				KeyPath:    env("OSC_X509_CLIENT_KEY", "OUTSCALE_X509KEY"),
				CertBase64: env("OSC_X509_CLIENT_CERT_B64"),
				KeyBase64:  env("OSC_X509_CLIENT_KEY_B64"),
			},
			InsecureSkipTLSVerify: skip || os.Getenv("OSC_TLS_SKIP_VERIFY") == "yes",
			MetadataEndpoint:      env("OSC_METADATA_ENDPOINT"),
		},
	}
}

// fill takes missing settings from another source. Keys and certificates are pairs, of which one
// half is never taken from elsewhere.
func (a *Access) fill(from origin) error {
	other := from.access
	switch hasKeys := a.AccessKey != "" || a.SecretKey != ""; {
	case hasKeys:
	case other.AccessKey == "" && other.SecretKey != "":
		return fmt.Errorf("%s is set, but %s is not: they go together", from.secretKey, from.accessKey)
	case other.AccessKey != "" && other.SecretKey == "":
		return fmt.Errorf("%s is set, but %s is not: they go together", from.accessKey, from.secretKey)
	default:
		a.AccessKey, a.SecretKey = other.AccessKey, other.SecretKey
	}
	if a.Certificate.isZero() {
		a.Certificate = other.Certificate
	}
	if a.Region == "" && other.Region != "" {
		a.Region, a.regionFrom = other.Region, from.region
	}
	a.Endpoint = cmp.Or(a.Endpoint, other.Endpoint)
	a.MetadataEndpoint = cmp.Or(a.MetadataEndpoint, other.MetadataEndpoint)
	a.InsecureSkipTLSVerify = a.InsecureSkipTLSVerify || other.InsecureSkipTLSVerify
	return nil
}

// resolve fills empty fields and validates the result. The region may still be empty then: see
// settle.
func (a Access) resolve() (Access, error) {
	err := a.fill(origin{accessKey: "access_key", secretKey: "secret_key"})
	for _, next := range a.origins() {
		from, missing := next(a)
		err = cmp.Or(err, missing, a.fill(from))
	}
	if err != nil {
		return a, err
	}
	if err := errors.Join(a.checkKeys(), a.findEndpoint()); err != nil {
		return a, err
	}
	return a, nil
}

// origins returns the sources of access in their order: a profile that the template names precedes
// the environment; another profile follows it. Each source gets the settings found before.
func (a Access) origins() []func(Access) (origin, error) {
	environment := func(Access) (origin, error) { return fromEnvironment(), nil }
	if a.Profile != "" {
		return []func(Access) (origin, error){func(Access) (origin, error) { return readProfile(a.Profile) }, environment}
	}
	return []func(Access) (origin, error){environment, defaultProfile}
}

func (a *Access) checkKeys() error {
	switch {
	case a.AccessKey == "" && a.SecretKey == "":
		return errors.New("no keys for the Outscale API: set access_key and secret_key, or OSC_ACCESS_KEY and OSC_SECRET_KEY, " +
			"or profile")
	case a.AccessKey == "":
		return errors.New("secret_key is set, but access_key is not: they go together")
	case a.SecretKey == "":
		return errors.New("access_key is set, but secret_key is not: they go together")
	}
	return nil
}

// outscaleHost is the host of Outscale's own endpoints; the group is the region.
var outscaleHost = regexp.MustCompile(`^api\.([a-z0-9-]+)\.outscale\.com$`)

// regionName matches the name of a region, which becomes part of a host name.
var regionName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// findEndpoint completes region and endpoint from each other.
func (a *Access) findEndpoint() error {
	var errs []error
	for _, e := range []struct {
		option, path string
		to           *string
	}{
		{"custom_endpoint_oapi (or OSC_ENDPOINT_API)", "/api/v1", &a.Endpoint},
		{"custom_endpoint_metadata (or OSC_METADATA_ENDPOINT)", "", &a.MetadataEndpoint},
	} {
		if *e.to == "" {
			continue
		}
		u, err := parseEndpoint(*e.to, e.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s is %q: %w", e.option, *e.to, err))
			continue
		}
		*e.to = u.String()
		if m := outscaleHost.FindStringSubmatch(u.Hostname()); m != nil && a.Region == "" {
			a.Region, a.regionFrom = m[1], "the endpoint "+a.Endpoint
		}
	}
	if a.Region != "" && !regionName.MatchString(a.Region) {
		errs = append(errs, fmt.Errorf("region (or OSC_REGION) is %q: not the name of a region", a.Region))
	}
	return errors.Join(errs...)
}

// defaultRegion is the region of a build that nothing else names one for, as with
// Outscale's own tools.
const defaultRegion = "eu-west-2"

// settle finds the region that is not said anywhere: it is that of the VM, as its
// metadata say, or else the default one. It also completes the endpoint.
func (a Access) settle(ctx context.Context) Access {
	if a.Region == "" {
		m := newMetadata(a)
		region, err := m.region(ctx)
		a.Region, a.regionFrom = region, "the metadata service at "+m.endpoint
		if err != nil {
			a.Region, a.regionFrom = defaultRegion, fmt.Sprintf("the default: set region, or OSC_REGION, for another one (%v)", err)
		}
	}
	if a.Endpoint == "" {
		a.Endpoint = outscaleEndpoint(a.Region)
	}
	return a
}

// outscaleEndpoint is the URL of Outscale's own API in a region.
func outscaleEndpoint(region string) string { return "https://api." + region + ".outscale.com/api/v1" }

// in returns the same access for another region. An endpoint that is not Outscale's own is assumed
// to serve every region, depending on the region that a request is signed for.
func (a Access) in(region string) Access {
	if a.Endpoint == outscaleEndpoint(a.Region) {
		a.Endpoint = outscaleEndpoint(region)
	}
	a.Region = region
	return a
}

// parseEndpoint reads a URL of the schemes http and https, or a host, for which
// https is meant. A URL without a path gets the given one.
func parseEndpoint(s, path string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, err
	case !slices.Contains([]string{"http", "https"}, u.Scheme):
		return nil, fmt.Errorf("the scheme %q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("there is no host in it")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("only a scheme, a host, a port and a path may be in it")
	}
	if u.Path = strings.TrimRight(u.Path, "/"); u.Path == "" {
		u.Path = path
	}
	return u, nil
}
