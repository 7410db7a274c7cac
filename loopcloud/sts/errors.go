package sts

import (
	"errors"
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
)

// validation is the code that refuses parameters and their values.
const validation = "ValidationError"

// invalid is the refusal of a parameter's value.
func invalid(format string, args ...any) *query.Error {
	return query.Refuse(validation, format, args...)
}

// wireError is an error of loopcloud itself as the wire has it.
func wireError(err error) *query.Error {
	return &query.Error{Status: http.StatusInternalServerError, Code: "InternalFailure", Message: err.Error()}
}

// authError is the answer to a request whose signature is not good.
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
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
