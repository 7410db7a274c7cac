//go:generate packer-sdc mapstructure-to-hcl2 -type AssumeRoleConfig,VaultConfig,PollingConfig
//go:generate packer-sdc struct-markdown
package amazon

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// AccessConfig holds the options for access to AWS. The zero value is the SDK's default chain:
// environment, shared files, web identity, container and instance role.
type AccessConfig struct {
	// The access key that signs requests to AWS. Requires `secret_key`. Defaults to the
	// first of these that has a key pair: the environment (`AWS_ACCESS_KEY_ID` and
	// `AWS_SECRET_ACCESS_KEY`), the shared configuration files, a web identity, the role of
	// the container, the role of the instance.
	AccessKey string `mapstructure:"access_key"`
	// The secret key of `access_key`. It is an error to set only one of the two.
	SecretKey string `mapstructure:"secret_key"`
	// The session token of `access_key`, if the keys are temporary. It is an error without
	// `access_key`.
	Token string `mapstructure:"token"`
	// The profile of the shared configuration files that provides keys and region. Defaults
	// to the environment variable `AWS_PROFILE`, or `default` if it is not set.
	Profile string `mapstructure:"profile"`
	// The path of the shared credentials file. Defaults to the environment variable
	// `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials` if it is not set.
	SharedCredentialsFile string `mapstructure:"shared_credentials_file"`
	// The six digits from a device for multi-factor authentication, for a profile with an
	// `mfa_serial`. Use a variable, because each code is valid only for a short time. By
	// default there is no code. A value that does not have six digits is refused. The build
	// warns if no profile needs the code.
	MFACode string `mapstructure:"mfa_code"`
	// A role to assume with the credentials. The build then has the permissions of that
	// role. By default no role is assumed. See [Assuming a role](#assuming-a-role).
	AssumeRole AssumeRoleConfig `mapstructure:"assume_role"`
	// Read the keys from an AWS secrets engine of HashiCorp Vault instead of `access_key`.
	// By default Vault is not used. It is an error to set both. See
	// [Keys from Vault](#keys-from-vault).
	VaultAWSEngine VaultConfig `mapstructure:"vault_aws_engine"`
	// Do not check before the first request whether there are credentials. Defaults to
	// `false`: the build fails at once if it finds none.
	SkipCredentialValidation bool `mapstructure:"skip_credential_validation"`
	// Never use the metadata service of the instance: neither for the keys of the
	// instance's role, nor for the region, nor for the ID of the instance. Requires
	// `instance_id`, unless `ebs_direct` is set. It is meant for services that implement the EC2 API and have no
	// metadata service. Defaults to `false`: the metadata service provides values that are
	// not set elsewhere.
	SkipMetadataAPICheck bool `mapstructure:"skip_metadata_api_check"`
	// The region to build in, such as `eu-west-1`. It must be the region of the instance
	// that Packer runs on, unless `ebs_direct` is set. Defaults to the first of these that is set: the environment
	// (`AWS_REGION` or `AWS_DEFAULT_REGION`), the shared configuration file, the metadata
	// of the instance.
	Region string `mapstructure:"region"`
	// The ID of the instance that Packer runs on, such as `i-0123456789abcdef0`. Defaults
	// to the ID from the metadata service of the instance, which a container often cannot
	// reach. A value that is not an instance ID is refused.
	InstanceID string `mapstructure:"instance_id"`
	// The URL of another service that implements the EC2 API, such as
	// `https://ec2.example.com`. The scheme defaults to `https`. The URL is used for the
	// region of the build only, unless it contains `{region}`, which is replaced by the
	// name of each region. Defaults to the endpoint of AWS for the region. An invalid URL
	// is refused.
	CustomEndpointEC2 string `mapstructure:"custom_endpoint_ec2"`
	// The URL of the EBS direct APIs for `ebs_direct`, such as `https://ebs.example.com`. The
	// scheme defaults to `https`, and `{region}` is replaced by the region of the build.
	// Defaults to the endpoint of AWS for the region. An invalid URL is refused.
	CustomEndpointEBS string `mapstructure:"custom_endpoint_ebs"`
	// The URL of the metadata service of the instance. Defaults to the environment variable
	// `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or to `http://169.254.169.254` if it is not set.
	// An invalid URL is refused.
	CustomEndpointMetadata string `mapstructure:"custom_endpoint_metadata"`
	// Accept any certificate from the endpoints of EC2 and of the EBS direct APIs. Defaults to
	// `false`.
	InsecureSkipTLSVerify bool `mapstructure:"insecure_skip_tls_verify"`
	// Use the AWS endpoints whose cryptography is validated for FIPS 140. Defaults to the
	// environment variable `AWS_USE_FIPS_ENDPOINT`, or `false` if it is not set.
	UseFIPSEndpoint bool `mapstructure:"use_fips_endpoint"`
	// Use the AWS endpoints that accept both IPv4 and IPv6. Defaults to the environment
	// variable `AWS_USE_DUALSTACK_ENDPOINT`, or `false` if it is not set.
	UseDualStackEndpoint bool `mapstructure:"use_dualstack_endpoint"`
	// The number of times that a request is retried if AWS throttles it, fails (HTTP 5xx)
	// or does not respond. The intervals grow from a quarter of a second to 15 seconds, so
	// `20` takes about two minutes. Defaults to `0`, which limits the time instead: to 10
	// minutes if AWS throttles, and otherwise to 2 minutes. With a low number, builds fail
	// on busy accounts. A negative number is refused.
	MaxRetries int `mapstructure:"max_retries"`
	// Decode the encoded message of a denied request with STS. Requires the permission
	// `sts:DecodeAuthorizationMessage`. Defaults to `false`.
	DecodeAuthorizationMessages bool `mapstructure:"decode_authorization_messages"`
	// How often and how long to poll the state of volumes, snapshots and images. See
	// [Waiting](#waiting).
	AWSPolling PollingConfig `mapstructure:"aws_polling"`
}

// AssumeRoleConfig holds the options of the block assume_role.
type AssumeRoleConfig struct {
	// The ARN of the role. Without it no role is assumed, and the build warns.
	RoleARN string `mapstructure:"role_arn"`
	// The length of a session in seconds, from 900 to 43200. The session is renewed while
	// the build runs. Defaults to 900. A number out of range is refused.
	DurationSeconds int `mapstructure:"duration_seconds"`
	// The external ID that the trust policy of the role requires. By default there is none.
	ExternalID string `mapstructure:"external_id"`
	// A policy in JSON that further restricts the permissions of the session. By default
	// there is none.
	Policy string `mapstructure:"policy"`
	// The ARNs of managed policies that further restrict the permissions of the session. By
	// default there are none.
	PolicyARNs []string `mapstructure:"policy_arns"`
	// The name of the session, which appears in the logs of the role's owner: 2 to 64
	// letters, digits and characters of `_+=,.@-`. Defaults to `packer-amazon-chroot`. A
	// name of another form is refused.
	SessionName string `mapstructure:"session_name"`
	// The tags of the session. By default there are none.
	Tags map[string]string `mapstructure:"tags"`
	// The keys of the session tags that are passed on if the session assumes another role.
	// By default there are none. A key that is not in `tags` is refused.
	TransitiveTagKeys []string `mapstructure:"transitive_tag_keys"`
}

// VaultConfig holds the options of the block vault_aws_engine.
type VaultConfig struct {
	// The name of the role in Vault. Required in this block.
	Name string `mapstructure:"name"`
	// The path where the secrets engine is mounted. Defaults to `aws`.
	EngineName string `mapstructure:"engine_name"`
	// The ARN of the AWS role to assume. Vault requires it if its role allows more than
	// one. By default there is none. A value that is not the ARN of a role is refused.
	RoleARN string `mapstructure:"role_arn"`
	// The time that the keys are valid, such as `3600s` or `1h`. Defaults to the TTL of the
	// secrets engine. A value that is not a duration is refused.
	TTL string `mapstructure:"ttl"`
}

// PollingConfig holds the options of the block aws_polling.
type PollingConfig struct {
	// The polling interval in seconds. Defaults to the environment variable
	// `AWS_POLL_DELAY_SECONDS`. If neither is set, the build polls when a resource is likely
	// to be ready: by the time already waited, by progress, and by the duration of earlier
	// waits on this host. A negative number is refused.
	DelaySeconds int `mapstructure:"delay_seconds"`
	// The number of polls before the build gives up. Without `delay_seconds` each poll
	// counts as 15 seconds. Defaults to the environment variable `AWS_MAX_ATTEMPTS`. If
	// neither is set, the build gives up after a time without progress: 10 minutes for a
	// volume, 30 minutes for an image, and 2 hours for a snapshot or a copy. A negative
	// number is refused.
	MaxAttempts int `mapstructure:"max_attempts"`
}

const (
	delayEnv    = "AWS_POLL_DELAY_SECONDS"
	attemptsEnv = "AWS_MAX_ATTEMPTS"
	// usualDelay is the interval that max_attempts counts in when no delay is given,
	// as users of Packer know it.
	usualDelay = 15 * time.Second
)

func (c *AccessConfig) checkAccess() []error {
	errs := []error{builder.CheckKeys(c.AccessKey, c.SecretKey), c.checkEndpoints()}
	errs = append(errs, c.checkIdentity()...)
	errs = append(errs, c.AssumeRole.check()...)
	errs = append(errs, c.VaultAWSEngine.check())
	return append(errs, c.AWSPolling.complete()...)
}

// checkEndpoints completes the endpoints, too.
func (c *AccessConfig) checkEndpoints() error {
	var wrongEC2, wrongEBS, wrongMetadata error
	c.CustomEndpointEBS, wrongEBS = checkEndpoint("custom_endpoint_ebs", c.CustomEndpointEBS)
	c.CustomEndpointEC2, wrongEC2 = checkEndpoint("custom_endpoint_ec2", c.CustomEndpointEC2)
	c.CustomEndpointMetadata, wrongMetadata = builder.Endpoint("custom_endpoint_metadata", c.CustomEndpointMetadata)
	return errors.Join(wrongEC2, wrongEBS, wrongMetadata)
}

// regionPlace is the placeholder for the region's name in an endpoint.
const regionPlace = "{region}"

// checkEndpoint returns the URL that an option gives, with a scheme; empty if the
// option is. It may have {region} in place of the region's name.
func checkEndpoint(option, given string) (string, error) {
	if given == "" {
		return "", nil
	}
	full := given
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(strings.ReplaceAll(full, regionPlace, "region"))
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", fmt.Errorf("%s is %q, but must be a URL such as https://%[3]s.example.com or https://%[3]s.%[4]s.example.com",
			option, given, strings.TrimPrefix(option, "custom_endpoint_"), regionPlace)
	}
	return full, nil
}

var (
	instanceID = regexp.MustCompile(`^i-([0-9a-f]{8}|[0-9a-f]{17})$`)
	mfaCode    = regexp.MustCompile(`^[0-9]{6}$`)
)

func (c *AccessConfig) checkIdentity() []error {
	var errs []error
	if c.InstanceID != "" && !instanceID.MatchString(c.InstanceID) {
		errs = append(errs, fmt.Errorf("instance_id is %q, but must be the id of an instance such as i-0123456789abcdef0", c.InstanceID))
	}
	if c.MFACode != "" && !mfaCode.MatchString(c.MFACode) {
		errs = append(errs, errors.New("mfa_code must be the six digits that the device shows"))
	}
	if c.MaxRetries < 0 {
		errs = append(errs, fmt.Errorf("max_retries is %d, but must be a number of times", c.MaxRetries))
	}
	if c.Token != "" && c.AccessKey == "" {
		errs = append(errs, errors.New("token is given without access_key"))
	}
	if c.AccessKey != "" && c.VaultAWSEngine.isSet() {
		errs = append(errs, errors.New("access_key and vault_aws_engine both say where the keys come from: give one of them"))
	}
	return errs
}

func (c *AccessConfig) accessWarnings() []string {
	var warnings []string
	if !c.AssumeRole.isZero() && c.AssumeRole.RoleARN == "" {
		warnings = append(warnings, "assume_role has no role_arn: no role is assumed")
	}
	if c.MFACode != "" && (c.AccessKey != "" || c.VaultAWSEngine.isSet()) {
		warnings = append(warnings, "mfa_code is not used: it is for the role of a profile that has an mfa_serial, "+
			"and keys from elsewhere are given")
	}
	return warnings
}

// The forms of STS's parameters.
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
var (
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)
	policyARN   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)
)

const (
	minSession = 900
	maxSession = 43200
)

func (a AssumeRoleConfig) isZero() bool {
	return a.RoleARN == "" && a.DurationSeconds == 0 && a.ExternalID == "" && a.Policy == "" &&
		a.PolicyARNs == nil && a.SessionName == "" && a.Tags == nil && a.TransitiveTagKeys == nil
}

func (a AssumeRoleConfig) check() []error {
	form := func(option, given string, form *regexp.Regexp, want string) error {
		if given == "" || form.MatchString(given) {
			return nil
		}
		return fmt.Errorf("assume_role: %s is %q, but must be %s", option, given, want)
	}
	errs := []error{
		form("role_arn", a.RoleARN, roleARN, "the ARN of a role, such as arn:aws:iam::123456789012:role/build"),
		form("session_name", a.SessionName, sessionName, "2 to 64 letters, digits and characters of _+=,.@-"),
		form("external_id", a.ExternalID, externalID, "at least 2 letters, digits and characters of _+=,.@:/-"),
	}
	if n := a.DurationSeconds; n != 0 && (n < minSession || n > maxSession) {
		errs = append(errs, fmt.Errorf("assume_role: duration_seconds is %d, but must be from %d to %d", n, minSession, maxSession))
	}
	if a.Policy != "" && !json.Valid([]byte(a.Policy)) {
		errs = append(errs, errors.New("assume_role: policy is not JSON"))
	}
	errs = append(errs, builder.CheckEach("assume_role.policy_arns", a.PolicyARNs, policyARN, "the ARN of a policy")...)
	for _, key := range a.TransitiveTagKeys {
		if _, known := a.Tags[key]; !known {
			errs = append(errs, fmt.Errorf("assume_role: transitive_tag_keys has %q, which is no key of its tags", key))
		}
	}
	return errs
}

// vaultTTL is Vault's form of a duration: a number of seconds, or with a unit.
// Source: https://developer.hashicorp.com/vault/docs/concepts/duration-format
var vaultTTL = regexp.MustCompile(`^([0-9]+|([0-9]+(\.[0-9]+)?(d|h|m|s|ms|us|ns))+)$`)

// isSet reports whether Vault has the keys.
func (v VaultConfig) isSet() bool { return v != VaultConfig{} }

func (v VaultConfig) check() error {
	switch {
	case !v.isSet():
		return nil
	case v.Name == "":
		return errors.New("vault_aws_engine: name is required")
	case v.RoleARN != "" && !roleARN.MatchString(v.RoleARN):
		return fmt.Errorf("vault_aws_engine: role_arn is %q, but must be the ARN of a role", v.RoleARN)
	case v.TTL != "" && !vaultTTL.MatchString(v.TTL):
		return fmt.Errorf("vault_aws_engine: ttl is %q, but must be a duration such as 3600s", v.TTL)
	}
	return nil
}

// complete takes missing values from the environment and returns the errors in them.
func (p *PollingConfig) complete() []error {
	var errs []error
	number := func(option string, value *int, variable string) {
		text := os.Getenv(variable)
		if *value == 0 && text != "" {
			option = variable
			var err error
			if *value, err = strconv.Atoi(text); err != nil {
				errs = append(errs, fmt.Errorf("%s is %q, but must be a number", option, text))
			}
		}
		if *value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d, but must not be below 0", option, *value))
		}
	}
	number("aws_polling: delay_seconds", &p.DelaySeconds, delayEnv)
	number("aws_polling: max_attempts", &p.MaxAttempts, attemptsEnv)
	return errs
}

// waits returns the limits and polling intervals of a build. A number of attempts alone sets the
// time limit, and not the polling interval.
func (p PollingConfig) waits() bake.Waits {
	if p.DelaySeconds > 0 {
		return bake.Waits{}.Polled(time.Duration(p.DelaySeconds)*time.Second, p.MaxAttempts)
	}
	pace := bake.Pace{Limit: time.Duration(p.MaxAttempts) * usualDelay}
	return bake.Waits{Volume: pace, Attachment: pace, Snapshot: pace, Image: pace, Copy: pace}
}

// secrets returns the values that must not be logged.
func (c *AccessConfig) secrets() []string {
	all := []string{c.AccessKey, c.SecretKey, c.Token, c.MFACode}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}
