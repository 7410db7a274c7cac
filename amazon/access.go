package amazon

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Access holds the credentials, the region and the endpoints of AWS. The zero value is the SDK's
// default chain: environment, shared files, web identity, container and instance role.
type Access struct {
	// AccessKey and SecretKey are given both or neither.
	AccessKey, SecretKey string
	// Token is the session token of temporary keys.
	Token string
	// Profile is one of the shared files'; empty means AWS_PROFILE, or default.
	Profile string
	// SharedCredentialsFile is read in place of AWS_SHARED_CREDENTIALS_FILE and of
	// ~/.aws/credentials.
	SharedCredentialsFile string
	// MFACode is the code of the device of a profile's mfa_serial.
	MFACode string
	// Region is where to build; empty means AWS_REGION, AWS_DEFAULT_REGION, the
	// profile's region, or else the region of this instance.
	Region string
	// MaxRetries is how often a request is made again at most; with 0 time decides.
	MaxRetries int
	// AssumeRole is a role to work as; nil means none.
	AssumeRole *AssumeRole
	// SkipCredentialValidation leaves it to the first request to fail where there are
	// no credentials.
	SkipCredentialValidation bool
	// Vault is where the keys come from; nil means not from Vault.
	Vault *VaultEngine
	// Endpoint is where EC2 of this region is, such as https://ec2.example.com;
	// empty means AWS's own, or AWS_ENDPOINT_URL_EC2 or AWS_ENDPOINT_URL. Nothing but
	// EC2 is asked there. EC2 of other regions is there too if it has {region} in it,
	// which stands for the region's name.
	Endpoint string
	// BlockEndpoint is the URL of the EBS direct APIs, in the same form as Endpoint. If it is
	// empty, it is AWS's own, or AWS_ENDPOINT_URL_EBS or AWS_ENDPOINT_URL.
	BlockEndpoint string
	// Direct reports whether the build needs no instance.
	Direct bool
	// MetadataEndpoint is where this instance's metadata are; empty means
	// AWS_EC2_METADATA_SERVICE_ENDPOINT, or the address that all instances have.
	MetadataEndpoint string
	// InsecureSkipTLSVerify trusts any certificate of EC2 and of the EBS direct APIs, and of nothing
	// else.
	InsecureSkipTLSVerify bool
	// DecodeAuthorizationMessages has STS decode the encoded part of a refusal.
	DecodeAuthorizationMessages bool
	// InstanceID is the ID of this instance. If it is empty, the metadata service is asked.
	InstanceID string
	// SkipMetadata never uses the metadata service, not even for keys. It requires InstanceID.
	SkipMetadata bool
	// WaitLimit is the time limit of a request and its retries. 0 means that each kind of
	// request has its own.
	WaitLimit time.Duration
	// UseFIPS and UseDualStack select those endpoints. False leaves the choice to
	// AWS_USE_FIPS_ENDPOINT, AWS_USE_DUALSTACK_ENDPOINT and the profile.
	UseFIPS, UseDualStack bool
}

// AssumeRole is a role that the credentials are used to assume.
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
type AssumeRole struct {
	RoleARN string
	// Duration is how long a session lasts, 15 minutes to 12 hours; 0 means 15
	// minutes. It is renewed while the build runs.
	Duration time.Duration
	// ExternalID is the ID that the role's owner requires of third parties; empty means none.
	ExternalID string
	// Policy is a policy in JSON that narrows the role's permissions.
	Policy string
	// PolicyARNs are managed policies that narrow the role's permissions.
	PolicyARNs []string
	// SessionName is shown in the logs of the role's owner; empty means a generated name.
	SessionName string
	// Tags are the session's; those of TransitiveTagKeys it hands on to a further
	// role.
	Tags              map[string]string
	TransitiveTagKeys []string
}

// VaultEngine is a role of an AWS secrets engine of HashiCorp Vault.
// Source: https://developer.hashicorp.com/vault/api-docs/secret/aws
type VaultEngine struct {
	// Name is the role's name in the engine.
	Name string
	// EngineName is the path that the engine is mounted at; empty means aws.
	EngineName string
	// RoleARN is the AWS role to assume, of those that the role in Vault allows;
	// empty means its only one.
	RoleARN string
	// TTL is how long the keys are good, such as 3600s; empty means the engine's
	// default.
	TTL string
}

// regionPlace stands in an endpoint for the region's name.
const regionPlace = "{region}"

// check returns an error if fields contradict each other, and the endpoint with its scheme.
func (a Access) check() (endpoint string, err error) {
	switch {
	case (a.AccessKey == "") != (a.SecretKey == ""):
		return "", errors.New("access_key and secret_key go together: give both or neither")
	case a.Token != "" && a.AccessKey == "":
		return "", errors.New("token is the session token of access_key and secret_key: give all three, or leave it out")
	case a.Vault != nil && a.AccessKey != "":
		return "", errors.New("vault_aws_engine and access_key both say where the keys come from: give one of them")
	case a.Vault != nil && a.Vault.Name == "":
		return "", errors.New("vault_aws_engine needs name, the role of the engine to ask for keys")
	case a.AssumeRole != nil && a.AssumeRole.RoleARN == "":
		return "", errors.New("assume_role needs role_arn, such as arn:aws:iam::123456789012:role/packer")
	case a.SkipMetadata && a.InstanceID == "" && !a.Direct:
		return "", errors.New("skip_metadata_api_check needs instance_id: nothing else says which instance this is")
	case a.MaxRetries < 0:
		return "", fmt.Errorf("max_retries is %d, but must be 0 or more", a.MaxRetries)
	}
	if _, err := CheckEndpoint("custom_endpoint_ebs", a.BlockEndpoint); err != nil {
		return "", err
	}
	return CheckEndpoint("custom_endpoint_ec2", a.Endpoint)
}

// CheckEndpoint returns the URL that an option gives, with a scheme; empty if the
// option is. It may have {region} in place of the region's name.
func CheckEndpoint(option, given string) (string, error) {
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
