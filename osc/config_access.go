//go:generate packer-sdc struct-markdown
package osc

import (
	"errors"
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// AccessConfig is how Outscale is reached, and as whom.
type AccessConfig struct {
	// The access key that requests to Outscale are signed with; `secret_key` goes
	// with it. By default both come from `profile`, the environment
	// (`OSC_ACCESS_KEY` and `OSC_SECRET_KEY`) or the default profile, in this order.
	AccessKey string `mapstructure:"access_key"`
	// The secret key that belongs to `access_key`.
	SecretKey string `mapstructure:"secret_key"`
	// The profile to take keys, region, endpoint and client certificate from, as far
	// as the template does not say them. It is looked for in the file
	// `~/.osc/config.json`, or in that which the environment variable
	// `OSC_CONFIG_FILE` names, and goes before the environment. By default it is the
	// one that the environment variable `OSC_PROFILE` names, or else the default one
	// of the file, and comes after the environment.
	Profile string `mapstructure:"profile"`
	// The region to build in, such as `eu-west-2`: that of the VM which Packer runs
	// on. By default it comes from the environment variable `OSC_REGION`, a profile, an
	// endpoint of Outscale's own or the metadata service of the VM, in this order, and
	// is `eu-west-2` if none of them says it. A `profile` that the template names goes
	// before the environment. The build says which region it takes, and from where.
	Region string `mapstructure:"region"`
	// The URL of another service that speaks the Outscale API, such as
	// `https://api.example.com/api/v1`. Without a scheme `https` is meant, without
	// a path `/api/v1`. Defaults to the environment variable `OSC_ENDPOINT_API`, or
	// else to Outscale's own in the region.
	CustomEndpointOAPI string `mapstructure:"custom_endpoint_oapi"`
	// The URL of the metadata service, which says on which VM Packer runs. Defaults
	// to the environment variable `OSC_METADATA_ENDPOINT`, or else to the address
	// that every VM has, `http://169.254.169.254`.
	CustomEndpointMetadata string `mapstructure:"custom_endpoint_metadata"`
	// The id of the VM that Packer runs on, such as `i-12345678`. By default the
	// metadata service says it; in a container it often cannot be reached.
	VMID string `mapstructure:"vm_id"`
	// The file of the client certificate that is shown to the API, in PEM;
	// `x509_key_path` goes with it. It is shown beside the signature of the keys.
	// Defaults to the environment variable `OSC_X509_CLIENT_CERT`.
	X509CertPath string `mapstructure:"x509_cert_path"`
	// The file of the key of that certificate, in PEM. Defaults to the environment
	// variable `OSC_X509_CLIENT_KEY`.
	X509KeyPath string `mapstructure:"x509_key_path"`
	// Accept any certificate of the API's endpoint. Defaults to the environment
	// variable `OSC_TLS_SKIP_VERIFY`, or else `false`.
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
