//go:generate packer-sdc struct-markdown
package osc

import (
	"errors"
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// AccessConfig holds the options for access to Outscale.
type AccessConfig struct {
	// The access key that signs requests to Outscale. Requires `secret_key`. Defaults to
	// the first of these that has a key pair: `profile`, the environment (`OSC_ACCESS_KEY`
	// and `OSC_SECRET_KEY`), the default profile.
	AccessKey string `mapstructure:"access_key"`
	// The secret key of `access_key`. It is an error to set only one of the two.
	SecretKey string `mapstructure:"secret_key"`
	// The profile that provides keys, region, endpoint and client certificate if the
	// template does not set them. It is read from the file that the environment variable
	// `OSC_CONFIG_FILE` names, or from `~/.osc/config.json`. A profile that is set here
	// takes precedence over the environment. Defaults to the profile that the environment
	// variable `OSC_PROFILE` names, or to the default profile of the file; other
	// environment variables take precedence over these two.
	Profile string `mapstructure:"profile"`
	// The region to build in, such as `eu-west-2`. It must be the region of the VM that
	// Packer runs on. Defaults to the first of these that is set: the environment variable
	// `OSC_REGION`, the default profile, the region of an Outscale endpoint, the metadata
	// service of the VM, `eu-west-2`. A `profile` that is set in the template takes
	// precedence over the environment. The build prints the region and its origin. A value
	// that is not the name of a region is refused.
	Region string `mapstructure:"region"`
	// The URL of another service that implements the Outscale API, such as
	// `https://api.example.com/api/v1`. The scheme defaults to `https` and the path to
	// `/api/v1`. Defaults to the environment variable `OSC_ENDPOINT_API`, or to the
	// endpoint of Outscale for the region if it is not set. An invalid URL is refused.
	CustomEndpointOAPI string `mapstructure:"custom_endpoint_oapi"`
	// The URL of the metadata service, which identifies the VM that Packer runs on.
	// Defaults to the environment variable `OSC_METADATA_ENDPOINT`, or to
	// `http://169.254.169.254` if it is not set. An invalid URL is refused.
	CustomEndpointMetadata string `mapstructure:"custom_endpoint_metadata"`
	// The ID of the VM that Packer runs on, such as `i-12345678`. Defaults to the ID from
	// the metadata service, which a container often cannot reach. A value that is not a VM
	// ID is refused.
	VMID string `mapstructure:"vm_id"`
	// The path of a client certificate in PEM, which is presented to the API in addition to
	// the signature of the keys. Requires `x509_key_path`. Defaults to the environment
	// variable `OSC_X509_CLIENT_CERT`.
	X509CertPath string `mapstructure:"x509_cert_path"`
	// The path of the private key of the client certificate, in PEM. Defaults to the
	// environment variable `OSC_X509_CLIENT_KEY`. It is an error without `x509_cert_path`.
	X509KeyPath string `mapstructure:"x509_key_path"`
	// Accept any certificate from the API endpoint. Defaults to the environment variable
	// `OSC_TLS_SKIP_VERIFY`, or `false` if it is not set.
	InsecureSkipTLSVerify bool `mapstructure:"insecure_skip_tls_verify"`
}

// checkAccess completes the endpoints, too.
func (a *AccessConfig) checkAccess() []error {
	errs := []error{builder.CheckKeys(a.AccessKey, a.SecretKey)}
	for _, e := range []struct {
		option string
		to     *string
	}{{"custom_endpoint_oapi", &a.CustomEndpointOAPI}, {"custom_endpoint_metadata", &a.CustomEndpointMetadata}} {
		full, err := builder.Endpoint(e.option, *e.to)
		*e.to = full
		errs = append(errs, err)
	}
	if a.Region != "" && !regionName.MatchString(a.Region) {
		errs = append(errs, fmt.Errorf("region is %q, but must be the name of a region such as eu-west-2", a.Region))
	}
	if a.VMID != "" && !vmID.MatchString(a.VMID) {
		errs = append(errs, fmt.Errorf("vm_id is %q, but must be the id of a VM such as i-12345678", a.VMID))
	}
	if a.X509CertPath != "" && a.X509KeyPath == "" {
		errs = append(errs, errors.New("x509_cert_path is given without x509_key_path"))
	}
	if a.X509CertPath == "" && a.X509KeyPath != "" {
		errs = append(errs, errors.New("x509_key_path is given without x509_cert_path"))
	}
	return errs
}

// access is the configuration as Dial takes it.
func (a *AccessConfig) access() Access {
	return Access{
		AccessKey:             a.AccessKey,
		SecretKey:             a.SecretKey,
		Profile:               a.Profile,
		Region:                a.Region,
		Endpoint:              a.CustomEndpointOAPI,
		Certificate:           Certificate{CertPath: a.X509CertPath, KeyPath: a.X509KeyPath},
		InsecureSkipTLSVerify: a.InsecureSkipTLSVerify,
		MetadataEndpoint:      a.CustomEndpointMetadata,
		VMID:                  a.VMID,
	}
}
