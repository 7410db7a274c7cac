package amazon

import (
	"errors"
	"slices"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Codes with which EC2 refuses a request. The table operations in retry.go has the refusals after
// which a call is repeated.
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
	codeInvalidRequest    = "InvalidRequest"
	codeUnauthorized      = "UnauthorizedOperation"
	codeThrottled         = "RequestLimitExceeded"
	codeNotPermitted      = "OperationNotPermitted"
	codeLimitExceeded     = "ResourceLimitExceeded"
	codeAccessDenied      = "AccessDeniedException" // of the EBS direct APIs
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

// hasCode reports whether AWS refused a request with one of the codes.
func hasCode(err error, codes ...string) bool {
	code := codeOf(err)
	return code != "" && slices.Contains(codes, code)
}

// messageOf returns the words with which AWS refused a request, or "".
func messageOf(err error) string {
	var refusal smithy.APIError
	if !errors.As(err, &refusal) {
		return ""
	}
	return refusal.ErrorMessage()
}

// deniedMark is before the permission in a refusal that names it: it may be
// another one than the operation's, such as ec2:CreateTags for CreateVolume.
const deniedMark = "is not authorized to perform: "

// permission is the one that a failed request wanted, such as ec2:CreateVolume.
func permission(err error) string {
	if _, after, found := strings.Cut(messageOf(err), deniedMark); found {
		name, _, _ := strings.Cut(after, " ")
		return name
	}
	var operation *smithy.OperationError
	if !errors.As(err, &operation) {
		return "this action"
	}
	return strings.ToLower(operation.Service()) + ":" + operation.Operation()
}

// statusOf is the HTTP status of an answer, or 0 if there was none.
func statusOf(err error) int {
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) {
		return 0
	}
	return answer.HTTPStatusCode()
}
