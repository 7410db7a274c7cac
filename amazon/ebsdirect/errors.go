package ebsdirect

import (
	"errors"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// ErrUnreadable is wrapped by the error for a snapshot whose blocks EBS does not let this account
// read, such as a public snapshot of another account. A copy of it can be read.
var ErrUnreadable = errors.New("the blocks of the snapshot cannot be read by this account")

// errMalformed is wrapped by the error for a response that breaks a rule of the API.
var errMalformed = errors.New("unexpected response")

// codeSignature is the code for a wrong signature, and for a block that does not match its checksum:
// the checksum is signed in place of the block.
const codeSignature = "InvalidSignatureException"

// wordsPolicy are in the message for a call that a policy does not allow.
const wordsPolicy = "is not authorized to perform"

// kindOf classifies an error of an action.
func (c *Client) kindOf(action string, known bool, err error) retry.Kind {
	var concurrent *types.ConcurrentLimitExceededException
	var garbled *smithy.DeserializationError
	kind := c.Kind(err)
	switch {
	case err == nil || kind != retry.Permanent:
		return kind
	case errors.As(err, &garbled), errors.Is(err, errAttempt), errors.Is(err, block.ErrChecksum), errors.Is(err, errMalformed),
		hasReason(err, types.ValidationExceptionReasonWriteRequestTimeout):
		return retry.Lost
	case hasReason(err, types.ValidationExceptionReasonConflictingBlockUpdate):
		return retry.Lost // an attempt whose response was lost still writes the block
	case errors.As(err, &concurrent):
		return retry.Throttled
	case isUnknown(err) && !known:
		return retry.Unseen
	case action == "PutSnapshotBlock" && hasCode(err, codeSignature):
		return retry.Skewed
	}
	return kind
}

// congested reports whether an error calls for fewer requests at a time.
func congested(kind retry.Kind, err error) bool {
	return kind == retry.Throttled || errors.Is(err, errAttempt) || hasReason(err, types.ValidationExceptionReasonWriteRequestTimeout)
}

// isUnknown reports whether EBS does not know a snapshot, or not as a completed one.
func isUnknown(err error) bool {
	var missing *types.ResourceNotFoundException
	return errors.As(err, &missing)
}

// IsUnknown reports whether EBS has refused a request because it does not know a snapshot that the
// request names, or not as a completed one. That may pass if EC2 shows the snapshot.
func IsUnknown(err error) bool {
	return isUnknown(err) || hasReason(err, types.ValidationExceptionReasonInvalidSnapshotId)
}

// isForeign reports whether EBS refuses to let this account read a snapshot. AWS does not document
// the error for a public snapshot. It is not that of a policy, nor that of a key.
func isForeign(err error) bool {
	var denied *types.AccessDeniedException
	if errors.As(err, &denied) {
		return denied.Reason != types.AccessDeniedExceptionReasonDependencyAccessDenied && !strings.Contains(denied.ErrorMessage(), wordsPolicy)
	}
	return IsUnknown(err)
}

// hasReason reports whether a request was invalid for one of the reasons.
func hasReason(err error, reasons ...types.ValidationExceptionReason) bool {
	var invalid *types.ValidationException
	return errors.As(err, &invalid) && slices.Contains(reasons, invalid.Reason)
}

func hasCode(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}
