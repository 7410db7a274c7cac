package oapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// apiError is an error response.
type apiError struct {
	Status              int
	Code, Type, Details string
}

func (e *apiError) Error() string { return e.Type + "/" + e.Code + ": " + e.Details }

// with returns the error with details.
func (e apiError) with(format string, args ...any) *apiError {
	e.Details = fmt.Sprintf(format, args...)
	return &e
}

// errDryRun is the error of a dry run that succeeded. The response has status 200 and holds the
// context only.
var errDryRun = errors.New("dry run")

// The errors. Those marked published are on the API's error page with this code, type and status;
// those marked recorded are from recorded responses of the real cloud. The others have a type of
// the error page and a code in that type's range that the page does not use.
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

// refusalKey is a kind of refusal of the state and the resource that is refused; "" is any
// resource.
type refusalKey struct {
	kind     state.Kind
	resource string
}

// refusals maps the refusals of the state to errors of the API.
var refusals = map[refusalKey]apiError{
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

// wireError returns the error response for any error.
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
	words, ok := refusals[refusalKey{refused.Kind, refused.Resource}]
	if !ok {
		words, ok = refusals[refusalKey{refused.Kind, ""}]
	}
	if !ok {
		words = internal
	}
	return words.with("%v", refused)
}

// authError returns the error response for an error of the Authorizer.
func authError(err error) *apiError {
	switch {
	case errors.Is(err, sigv4.ErrUnknownKey):
		return unknownKey.with("%v", err)
	case errors.Is(err, sigv4.ErrMissing), errors.Is(err, sigv4.ErrMalformed):
		return noScheme.with("%v", err)
	}
	return badSignature.with("%v", err)
}

// typeOf returns the error type that belongs to the range of a code. A code that is not a number
// is itself the type.
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

// faults are the errors of a throttled, failed, unavailable or forbidden call, by the name of the
// fault. The API throttles the whole platform, one account, or one account's calls of one name.
// Source: https://docs.outscale.com/en/userguide/API-Throttling.html
var faults = map[string]apiError{
	"throttled":         {http.StatusServiceUnavailable, "6", "", rateExceeded},
	"throttled-account": {http.StatusTooManyRequests, "24", "", rateExceeded},
	"throttled-call":    {http.StatusTooManyRequests, "25", "", rateExceeded},
	"internal":          internal,
	"unavailable":       {http.StatusServiceUnavailable, "ServiceUnavailable", "", "the service is unavailable"},
	"denied":            notAllowed,
}

const rateExceeded = "Request rate exceeded."

// Fault returns the error response for a named fault: throttled, throttled-account,
// throttled-call, internal, unavailable or denied.
func (h *Handler) Fault(name string) (status int, code, message string) {
	e, ok := faults[name]
	if !ok {
		e = internal
	}
	return e.Status, e.Code, e.Details
}
