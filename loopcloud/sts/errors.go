package sts

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
)

// apiError is a refusal as the wire has it.
type apiError struct {
	Status        int
	Code, Message string
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

// refuse makes a refusal with status 400.
func refuse(code, format string, args ...any) *apiError {
	return &apiError{Status: http.StatusBadRequest, Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalid is the refusal of a parameter's value.
func invalid(format string, args ...any) *apiError { return refuse("ValidationError", format, args...) }

// forbid makes a refusal with status 403.
func forbid(code, format string, args ...any) *apiError {
	return &apiError{Status: http.StatusForbidden, Code: code, Message: fmt.Sprintf(format, args...)}
}

// wireError is any error as the wire has it.
func wireError(err error) *apiError {
	var api *apiError
	if errors.As(err, &api) {
		return api
	}
	return &apiError{Status: http.StatusInternalServerError, Code: "InternalFailure", Message: err.Error()}
}

// authError is the answer to a request whose signature is not good.
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
func authError(err error) *apiError {
	switch {
	case errors.Is(err, sigv4.ErrMissing):
		return forbid("MissingAuthenticationToken", "Request is missing Authentication Token")
	case errors.Is(err, sigv4.ErrMalformed):
		return refuse("IncompleteSignature", "The request signature does not conform to AWS standards: %v", err)
	case errors.Is(err, sigv4.ErrUnknownKey), errors.Is(err, sigv4.ErrToken):
		return forbid("InvalidClientTokenId", "The security token included in the request is invalid.")
	case errors.Is(err, sigv4.ErrSessionEnded):
		return forbid("ExpiredToken", "The security token included in the request is expired")
	default:
		return forbid("SignatureDoesNotMatch", "The signature cannot be accepted: %v", err)
	}
}
