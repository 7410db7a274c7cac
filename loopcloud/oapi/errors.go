package oapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// apiError is a refusal as the wire has it.
type apiError struct {
	Status              int
	Code, Type, Details string
}

func (e *apiError) Error() string { return e.Type + "/" + e.Code + ": " + e.Details }

// with is the refusal with its reason.
func (e apiError) with(format string, args ...any) *apiError {
	e.Details = fmt.Sprintf(format, args...)
	return &e
}

// errDryRun ends a call that would have succeeded. The API answers it with
// status 200 and the context only.
var errDryRun = errors.New("dry run")

// The refusals. Those marked published are on the API's page of errors with
// this code, type and status; those marked recorded were seen from the real
// cloud; the others have a type that the page has, and a number of that type's
// thousand that the page has not, so that they cannot be taken for one of its own.
var (
	badSignature = apiError{http.StatusUnauthorized, "1", "AccessDenied", ""}           // published
	wrongMethod  = apiError{http.StatusMethodNotAllowed, "2", "AccessDenied", ""}       // published
	notAllowed   = apiError{http.StatusForbidden, "4", "AccessDenied", ""}              // recorded
	noScheme     = apiError{http.StatusUnauthorized, "12", "AccessDenied", ""}          // published
	locked       = apiError{http.StatusUnauthorized, "13", "AccessDenied", ""}          // published
	unknownKey   = apiError{http.StatusBadRequest, "4120", "InvalidParameterValue", ""} // recorded

	unknownCall  = apiError{http.StatusNotFound, "12000", "InvalidAction", ""}
	unknownParam = apiError{http.StatusBadRequest, "3001", "InvalidParameter", ""}
	badJSON      = apiError{http.StatusBadRequest, "3999", "InvalidParameter", ""}
	badType      = apiError{http.StatusBadRequest, "4998", "InvalidParameterValue", ""}
	badValue     = apiError{http.StatusBadRequest, "4999", "InvalidParameterValue", ""}
	malformedID  = apiError{http.StatusBadRequest, "4104", "InvalidParameterValue", ""} // recorded
	missing      = apiError{http.StatusBadRequest, "7000", "MissingParameter", ""}

	noImage    = apiError{http.StatusBadRequest, "5023", "InvalidResource", ""} // recorded
	noSnapshot = apiError{http.StatusBadRequest, "5054", "InvalidResource", ""} // recorded
	noVM       = apiError{http.StatusBadRequest, "5063", "InvalidResource", ""} // recorded
	noVolume   = apiError{http.StatusBadRequest, "5064", "InvalidResource", ""} // recorded
	noResource = apiError{http.StatusBadRequest, "5999", "InvalidResource", ""}

	volumeState   = apiError{http.StatusConflict, "6007", "InvalidState", ""} // recorded
	wrongState    = apiError{http.StatusConflict, "6999", "InvalidState", ""}
	conflict      = apiError{http.StatusConflict, "9999", "ResourceConflict", ""} // type and status recorded
	duplicate     = apiError{http.StatusConflict, "9998", "ResourceConflict", ""}
	tokenMismatch = apiError{http.StatusConflict, "9997", "ResourceConflict", ""}
	tooMany       = apiError{http.StatusBadRequest, "10999", "TooManyResources (QuotaExceded)", ""}
	internal      = apiError{http.StatusInternalServerError, "2000", "InternalError", ""}
)

// what is a kind of refusal of one resource; of any resource if that is empty.
type what struct {
	kind     state.Kind
	resource string
}

// refusals are the API's words for the refusals of the state.
var refusals = map[what]apiError{
	{state.NotFound, "image"}:      noImage,
	{state.NotFound, "snapshot"}:   noSnapshot,
	{state.NotFound, "instance"}:   noVM,
	{state.NotFound, "volume"}:     noVolume,
	{state.NotFound, ""}:           noResource,
	{state.Malformed, ""}:          malformedID,
	{state.WrongState, "image"}:    wrongState,
	{state.WrongState, "snapshot"}: wrongState,
	{state.WrongState, ""}:         conflict,
	{state.InUse, ""}:              conflict,
	{state.Duplicate, ""}:          duplicate,
	{state.InvalidValue, ""}:       badValue,
	{state.Missing, ""}:            missing,
	{state.TokenMismatch, ""}:      tokenMismatch,
	{state.NotAllowed, ""}:         notAllowed,
	{state.Protected, ""}:          notAllowed,
	{state.Unreadable, ""}:         notAllowed,
	{state.Unsuited, ""}:           badValue,
	{state.Limit, ""}:              tooMany,
}

// wireError is any error as the wire has it.
func wireError(err error) *apiError {
	var (
		api     *apiError
		refused *state.Error
	)
	switch {
	case errors.As(err, &api):
		return api
	case !errors.As(err, &refused):
		return internal.with("%v", err)
	}
	words, ok := refusals[what{refused.Kind, refused.Resource}]
	if !ok {
		words, ok = refusals[what{refused.Kind, ""}]
	}
	if !ok {
		words = internal
	}
	return words.with("%v", refused)
}

// authError is the answer to a request whose signature is not good.
func authError(err error) *apiError {
	switch {
	case errors.Is(err, sigv4.ErrUnknownKey):
		return unknownKey.with("%v", err)
	case errors.Is(err, sigv4.ErrMissing), errors.Is(err, sigv4.ErrMalformed):
		return noScheme.with("%v", err)
	}
	return badSignature.with("%v", err)
}

// typeOf is the type of the errors of a code's thousand. A code that is no
// number is a type itself.
func typeOf(code string) string {
	n, err := strconv.Atoi(code)
	if err != nil {
		return code
	}
	types := map[int]string{
		0: "AccessDenied", 1: "DependencyProblem", 2: "InternalError", 3: "InvalidParameter",
		4: "InvalidParameterValue", 5: "InvalidResource", 6: "InvalidState", 7: "MissingParameter",
		8: "OperationNotSupported", 9: "ResourceConflict", 10: "TooManyResources (QuotaExceded)",
	}
	if t, ok := types[n/1000]; ok {
		return t
	}
	return "DefaultError"
}

// faultWords are what the API answers when it is not well, or the caller not
// allowed. It has one limit for the whole platform, one for each account, and one for an
// account's calls of one name.
// Source: https://docs.outscale.com/en/userguide/API-Throttling.html
var faultWords = map[string]apiError{
	"throttled":         {http.StatusServiceUnavailable, "6", "", rateExceeded},
	"throttled-account": {http.StatusTooManyRequests, "24", "", rateExceeded},
	"throttled-call":    {http.StatusTooManyRequests, "25", "", rateExceeded},
	"internal":          internal,
	"unavailable":       {http.StatusServiceUnavailable, "ServiceUnavailable", "", "the service is unavailable"},
	"denied":            notAllowed,
}

const rateExceeded = "Request rate exceeded."

// Fault tells how the API says that a call is throttled, failed inside (internal), met
// an unavailable service, or is denied.
func (h *Handler) Fault(name string) (status int, code, message string) {
	e, ok := faultWords[name]
	if !ok {
		e = internal
	}
	return e.Status, e.Code, e.Details
}
