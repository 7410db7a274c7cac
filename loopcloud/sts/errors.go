package sts

import (
	"errors"
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
)

// validation is the error code for invalid parameters.
const validation = "ValidationError"

// invalid returns the error for an invalid value of a parameter.
func invalid(format string, args ...any) *query.Error {
	return query.Refuse(validation, format, args...)
}

// wireError returns the error response for an error of loopcloud itself.
func wireError(err error) *query.Error {
	return &query.Error{Status: http.StatusInternalServerError, Code: "InternalFailure", Message: err.Error()}
}

// authError returns the error response for an error of the Authorizer. Source:
// https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
func authError(err error) *query.Error {
	switch {
	case errors.Is(err, sigv4.ErrUnknownKey), errors.Is(err, sigv4.ErrToken):
		return query.Forbid("InvalidClientTokenId", "The security token included in the request is invalid.")
	case errors.Is(err, sigv4.ErrSessionEnded):
		return query.Forbid("ExpiredToken", "The security token included in the request is expired")
	default:
		return query.Forbid("SignatureDoesNotMatch", "The signature cannot be accepted: %v", err)
	}
}
