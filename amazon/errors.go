package amazon

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Codes with which EC2 refuses a request.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
const (
	codeImageNotFound     = "InvalidAMIID.NotFound"
	codeImageUnavailable  = "InvalidAMIID.Unavailable"
	codeNameDuplicate     = "InvalidAMIName.Duplicate"
	codeNotOwner          = "AuthFailure"
	codeUnknownAction     = "InvalidAction"
	codeUnsupported       = "UnsupportedOperation"
	codeInstanceNotFound  = "InvalidInstanceID.NotFound"
	codeVolumeNotFound    = "InvalidVolume.NotFound"
	codeSnapshotNotFound  = "InvalidSnapshot.NotFound"
	codeSnapshotInUse     = "InvalidSnapshot.InUse"
	codeAttachmentMissing = "InvalidAttachment.NotFound"
	codeVolumeInUse       = "VolumeInUse"
	codeIncorrectState    = "IncorrectState"
	codeDeviceInUse       = "InvalidDevice.InUse"
	codeInvalidValue      = "InvalidParameterValue"
	codeUnauthorized      = "UnauthorizedOperation"
)

// Codes that say the same of the credentials in EC2's words and in those of
// AWS's newer services.
var (
	refusedCodes = []string{
		"InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException",
		"InvalidAccessKeyId", "MissingAuthenticationToken", "IncompleteSignature",
	}
	expiredCodes = []string{"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
)

// codeOf is the code with which AWS refused a request, or empty if err is no
// refusal.
func codeOf(err error) string {
	var refusal smithy.APIError
	if !errors.As(err, &refusal) {
		return ""
	}
	return refusal.ErrorCode()
}

// hasCode tells whether AWS refused a request with one of the codes.
func hasCode(err error, codes ...string) bool {
	code := codeOf(err)
	return code != "" && slices.Contains(codes, code)
}

// cannot says what could not be done, and, where it can, what to look at.
func (c *Client) cannot(err error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if advice := c.advice(err); advice != "" {
		return fmt.Errorf("cannot %s: %w (%s)", what, err, advice)
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

// advice says what the user should check after an error, or nothing.
func (c *Client) advice(err error) string {
	switch {
	case hasCode(err, refusedCodes...) || statusOf(err) == http.StatusUnauthorized:
		return fmt.Sprintf("AWS refused access key %s: check %s", c.keys.known().AccessKeyID, c.keyOrigin())
	case hasCode(err, expiredCodes...):
		return fmt.Sprintf("access key %s has expired, or this machine's clock is wrong: check %s", c.keys.known().AccessKeyID, c.keyOrigin())
	case hasCode(err, codeUnauthorized):
		return fmt.Sprintf("the policies of access key %s do not allow this action", c.keys.known().AccessKeyID)
	case hasCode(err, "OptInRequired"):
		return fmt.Sprintf("the account has not enabled region %s", c.Region())
	default:
		return c.adviceOnTransport(err)
	}
}

// keyOrigin names what the credentials come from.
func (c *Client) keyOrigin() string {
	if c.access.AccessKey != "" {
		return "access_key and secret_key"
	}
	return fmt.Sprintf("the environment, profile or role that it comes from (%s), or give access_key and secret_key", c.keys.known().Source)
}

// adviceOnTransport names the endpoint that did not answer.
func (c *Client) adviceOnTransport(err error) string {
	var sending *smithyhttp.RequestSendError
	var request *url.Error
	if !errors.As(err, &sending) || !errors.As(err, &request) {
		return ""
	}
	if c.endpoint != "" {
		return fmt.Sprintf("no answer from %s: check custom_endpoint_ec2", request.URL)
	}
	return fmt.Sprintf("no answer from %s: check region %s, AWS_ENDPOINT_URL and the network", request.URL, c.Region())
}

// statusOf is the HTTP status of an answer, or 0 if there was none.
func statusOf(err error) int {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.HTTPStatusCode()
}
