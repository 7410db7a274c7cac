package amazon

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// cannot returns an error that names the failed action and, if possible, adds advice.
func (c *Client) cannot(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if advice := c.advice(err); advice != "" {
		return fmt.Errorf("cannot %s: %w (%s)", what, err, advice)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

// advice returns advice for the user about an error; empty if there is none.
func (c *Client) advice(err error) string {
	help, known := adviceByCode[codeOf(err)+" "+permission(err)]
	if !known {
		help, known = adviceByCode[codeOf(err)]
	}
	if known {
		return strings.NewReplacer("{region}", c.Region(), "{permission}", permission(err)).Replace(help)
	}
	switch {
	case hasCode(err, expiredCodes...):
		return fmt.Sprintf("access key %s has expired, or this machine's clock is wrong: check %s", c.keyID(), c.keyOrigin())
	case hasCode(err, refusedCodes...) || statusOf(err) == http.StatusUnauthorized:
		return c.adviceOnKeys()
	case hasCode(err, codeNotOwner):
		return "its owner has not shared it with this account, or only the owner may do that"
	case hasCode(err, codeUnauthorized, "AccessDenied", codeAccessDenied):
		return c.adviceOnDenial(err)
	default:
		return c.adviceOnTransport(err)
	}
}

// adviceOnKeys says why AWS may have refused the keys.
func (c *Client) adviceOnKeys() string {
	if c.accepted.Load() {
		return fmt.Sprintf("AWS refused access key %s, which it accepted before: it was disabled or deleted, or its session was revoked; check %s",
			c.keyID(), c.keyOrigin())
	}
	advice := fmt.Sprintf("AWS refused access key %s: check %s", c.keyID(), c.keyOrigin())
	if partition := partitionOf(c.Region()); partition != ordinary {
		return advice + fmt.Sprintf("; %s, which is in the partition %s: each partition has its own accounts and keys", c.regionOrigin(), partition)
	}
	if !slices.Contains(enabledRegions, c.Region()) {
		advice += fmt.Sprintf("; %s: AWS refuses every key if the region does not exist, or if the account has not enabled it", c.regionOrigin())
	}
	return advice
}

// enabledRegions are the regions that every account has. AWS's later ones have to be
// enabled.
// Source: https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html
var enabledRegions = []string{
	"us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1",
	"eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3",
	"ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-southeast-1", "ap-southeast-2",
}

// regionOrigin says which region it is, and where it was named.
func (c *Client) regionOrigin() string {
	from := "the profile's or the metadata's region is"
	switch c.Region() {
	case c.access.Region:
		from = "region is"
	case os.Getenv("AWS_REGION"):
		from = "AWS_REGION is"
	case os.Getenv("AWS_DEFAULT_REGION"):
		from = "AWS_DEFAULT_REGION is"
	}
	return fmt.Sprintf("%s %q", cmp.Or(c.regionFrom, from), c.Region())
}

// adviceOnDenial names the permission that is missing.
func (c *Client) adviceOnDenial(err error) string {
	var known *denial
	var blocks *ebstypes.AccessDeniedException
	name := permission(err)
	switch {
	case errors.As(err, &blocks):
		return fmt.Sprintf(blockDenials[blocks.Reason], c.keyID(), name)
	case strings.HasPrefix(name, "sts:"):
		return fmt.Sprintf("access key %s needs the permission %s, the role's trust policy must name who has the key, "+
			"and external_id and mfa_code must be what it asks for", c.keyID(), name)
	case errors.As(err, &known), c.access.DecodeAuthorizationMessages:
		return fmt.Sprintf("the policies of access key %s do not allow %s", c.keyID(), name)
	default:
		return fmt.Sprintf("the policies of access key %s do not allow %s; decode_authorization_messages may tell more", c.keyID(), name)
	}
}

// blockDenials holds the advice after a refusal of the EBS direct APIs, by its reason, with places for
// the access key and the permission.
var blockDenials = map[ebstypes.AccessDeniedExceptionReason]string{
	"": "the policies of access key %s do not allow %s",
	ebstypes.AccessDeniedExceptionReasonUnauthorizedAccount: "the account of access key %s may not use the snapshot for %s: " +
		"it is public, or it belongs to another account that has not shared it",
	ebstypes.AccessDeniedExceptionReasonDependencyAccessDenied: "the policies of access key %s, or those of the snapshot's KMS key, do not allow the use of that key for %s",
}

// adviceByCode holds the advice after refusals that have one cause, by code, or by code and permission if
// the cause depends on the action.
// Sources: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html,
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/block-public-access-to-amis.html and
// https://docs.aws.amazon.com/ebs/latest/userguide/block-public-access-snapshots.html
var adviceByCode = map[string]string{
	"VolumeLimitExceeded": "the account has all the EBS storage of this volume type that it may have in {region}: " +
		"delete volumes, or ask Service Quotas for more",
	"MaxIOPSLimitExceeded": "the account has all the provisioned IOPS that it may have in {region}: " +
		"build with fewer iops, delete volumes, or ask Service Quotas for more",
	"SnapshotLimitExceeded": "the account has all the snapshots that it may have in {region}: " +
		"delete snapshots, or ask Service Quotas for more",
	"SnapshotCreationPerVolumeRateExceeded": "a volume can be snapshotted once in 15 seconds: " +
		"something else made a snapshot of the build's volume; keep backup policies off it by root_volume_tags",
	"PendingSnapshotLimitExceeded":    manyPending,
	"ConcurrentSnapshotLimitExceeded": manyPending,
	"AttachmentLimitExceeded": "the instance has all the volumes that its type takes: " +
		"detach some, build fewer images at the same time, or use a larger instance",
	codeLimitExceeded: "a limit of the account in {region} is reached: " +
		"wait until other copies are done, or ask Service Quotas for more",
	"InsufficientVolumeCapacity":          "the zone lacks room for this volume type now: try later, or set root_volume_type",
	"TagLimitExceeded":                    "a thing can have 50 tags: give fewer",
	codeThrottled:                         throttled,
	"Throttling":                          throttled,
	codeVolumeNotFound:                    vanished,
	codeSnapshotNotFound:                  vanished,
	codeImageNotFound:                     vanished,
	codeInstanceNotFound:                  "check region, and that the access key belongs to the instance's account",
	codeIncorrectState:                    "it is not in a state for {permission}: did something else change it during the build?",
	"IncorrectInstanceState":              "the instance is not in a state for {permission}: it must be running",
	codeVolumeInUse:                       "it is attached already: did something else attach it during the build?",
	codeVolumeInUse + " ec2:DeleteVolume": "it is still attached: detach it first",
	codeSnapshotInUse:                     "an image uses it: deregister that first",
	codeNameDuplicate:                     "give another ami_name, or set force_deregister, which replaces an image of this account",
	"InvalidVolume.ZoneMismatch":          "volume and instance must be in one zone: check region, and instance_id if it is given",
	"UnknownVolumeType":                   "check root_volume_type: {region} does not have it",
	"OptInRequired": "the account has not enabled region {region}, or has not subscribed to the product of the source image " +
		"in AWS Marketplace",
	"PendingVerification": "AWS is still verifying the account for {region}: wait for its mail",
	"Blocked":             "AWS has blocked the account: ask its support",
	"InvalidIdentityToken": "check the file that AWS_WEB_IDENTITY_TOKEN_FILE or web_identity_token_file names, " +
		"and that the role trusts who made the token",
	codeUnsupported: "region {region}, or the instance, cannot do this",

	// of the EBS direct APIs
	"ConcurrentLimitExceededException": manyPending,
	"ServiceQuotaExceededException":    "the account has all the snapshots that it may have in {region}: delete snapshots, or ask Service Quotas for more",
	"RequestThrottledException":        throttled,

	// Sharing: Publication finds most causes before.
	"InvalidParameter ec2:ModifyImageAttribute":       "with ami_users, ami_org_arns or ami_ou_arns: " + managedKeyAdvice,
	codeUnsupported + " ec2:ModifyImageAttribute":     "with ami_groups: no AMI with an encrypted snapshot can be public: leave ami_groups out, or build without encryption",
	codeNotPermitted + " ec2:ModifyImageAttribute":    "with ami_groups: the account's setting Block public access for AMIs is on in {region}: turn it off there (ec2:DisableImageBlockPublicAccess), or share with accounts by ami_users",
	codeLimitExceeded + " ec2:ModifyImageAttribute":   "with ami_groups: the account has all the public AMIs that it may have in {region}: deregister some or make them private, or ask Service Quotas for more Public AMIs",
	codeNotPermitted + " ec2:ModifySnapshotAttribute": "with snapshot_users: " + managedKeyAdvice + "; with snapshot_groups: the snapshot is encrypted, or the account's setting Block public access for snapshots is on in {region} (ec2:DisableSnapshotBlockPublicAccess turns it off)",
	codeUnsupported + " ec2:ModifySnapshotAttribute":  "with snapshot_groups: no encrypted snapshot can be public: leave snapshot_groups out, or build without encryption",
}

const (
	manyPending = "too many snapshots are being made at the same time in {region}: build again when others are completed"
	throttled   = "AWS throttles {permission} for the account in {region}: build fewer images at the same time, ask AWS for a higher " +
		"request rate, or raise PACKER_CHROOT_PATIENCE or max_retries"
	vanished         = "it is gone: did something else, such as a clean-up, delete it during the build?"
	managedKeyAdvice = "a snapshot is encrypted with the key alias/aws/ebs of {region}, which AWS manages and no other account can use: " +
		"give root_volume_kms_key_id, or encrypt_boot with kms_key_id and, for copies, region_kms_key_ids, a customer managed key"
)

// keyID is the access key in use, for messages.
func (c *Client) keyID() string {
	return cmp.Or(c.keys.known().AccessKeyID, c.access.AccessKey, "of an unknown id")
}

// keyOrigin names the source of the credentials.
func (c *Client) keyOrigin() string {
	if c.access.AccessKey != "" {
		return "access_key and secret_key"
	}
	from := cmp.Or(c.keys.known().Source, "not found yet")
	return fmt.Sprintf("the environment, profile or role that it comes from (%s), or give access_key and secret_key", from)
}

// adviceOnTransport names the endpoint that did not answer.
func (c *Client) adviceOnTransport(err error) string {
	var sending *smithyhttp.RequestSendError
	var request *url.Error
	if !errors.As(err, &sending) || !errors.As(err, &request) {
		return ""
	}
	var unknown *net.DNSError
	option, custom := c.customEndpoint(err)
	if fault := builder.TLSFault(err, trust(err)); fault != "" {
		if custom != "" {
			fault += " (" + option + ")"
		}
		return fmt.Sprintf("%s: %s", request.URL, fault)
	}
	if errors.As(err, &unknown) && unknown.IsNotFound && custom == "" {
		return fmt.Sprintf("there is no host %s: %s; check the region's name, and AWS_ENDPOINT_URL if it is set", unknown.Name, c.regionOrigin())
	}
	if custom != "" {
		return fmt.Sprintf("no answer from %s: check %s", request.URL, option)
	}
	return fmt.Sprintf("no answer from %s: check region %s, AWS_ENDPOINT_URL and the network", request.URL, c.Region())
}

// trust says how to accept another certificate: insecure_skip_tls_verify is for EC2 and EBS alone.
func trust(err error) string {
	var operation *smithy.OperationError
	if errors.As(err, &operation) && (operation.Service() == ec2.ServiceID || operation.Service() == ebs.ServiceID) {
		return "name its authority in AWS_CA_BUNDLE, or set insecure_skip_tls_verify, which accepts any certificate"
	}
	return "name its authority in AWS_CA_BUNDLE"
}

// customEndpoint returns the option of the endpoint that a request was sent to, and its value. Errors
// of other APIs are reported as those of EC2.
func (c *Client) customEndpoint(err error) (option, value string) {
	var operation *smithy.OperationError
	if errors.As(err, &operation) && operation.Service() == ebs.ServiceID {
		return "custom_endpoint_ebs", c.access.CustomEndpointEBS
	}
	return "custom_endpoint_ec2", c.endpoint
}
