package ebs

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The codes of errors.
const (
	validation = "ValidationException"
	denied     = "AccessDeniedException"
	notFound   = "ResourceNotFoundException"
	throttled  = "RequestThrottledException"
	concurrent = "ConcurrentLimitExceededException"
	quota      = "ServiceQuotaExceededException"
	conflict   = "ConflictException"
	internal   = "InternalServerException"
	// badSignature is also the code for a block that does not match its checksum: the checksum is
	// signed in place of the block.
	badSignature = "InvalidSignatureException"
)

// Error is an error response.
type Error struct {
	Status                int
	Code, Reason, Message string
}

func (e *Error) Error() string { return e.Code + " " + e.Reason + ": " + e.Message }

func refuse(status int, code, reason, format string, args ...any) *Error {
	return &Error{status, code, reason, fmt.Sprintf(format, args...)}
}

// invalid returns the error for a request that breaks a rule of the API.
func invalid(reason, format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, validation, reason, format, args...)
}

// wireError returns the error response for any error of this package, of the state, or of
// loopcloud itself.
func wireError(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var refusal *state.Error
	if errors.As(err, &refusal) {
		return fromState(refusal)
	}
	return refuse(http.StatusInternalServerError, internal, "", "An internal error has occurred: %v", err)
}

// refusalKey is a kind of refusal of the state and the resource that is refused; "" is any
// resource.
type refusalKey struct {
	kind     state.Kind
	resource string
}

// codes maps the refusals of the state to errors. That a public snapshot and a foreign parent are
// refused is documented, but not with which code.
var codes = map[refusalKey]Error{
	{state.NotFound, "snapshot"}:      {Status: http.StatusNotFound, Code: notFound, Reason: "SNAPSHOT_NOT_FOUND"},
	{state.NotFound, "key"}:           {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_CUSTOMER_KEY"},
	{state.Malformed, "key"}:          {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_CUSTOMER_KEY"},
	{state.Malformed, "snapshot"}:     {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_SNAPSHOT_ID"},
	{state.Missing, "snapshot"}:       {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_SNAPSHOT_ID"},
	{state.WrongState, "snapshot"}:    {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_SNAPSHOT_ID"},
	{state.NotAllowed, "snapshot"}:    {Status: http.StatusForbidden, Code: denied, Reason: "UNAUTHORIZED_ACCOUNT"},
	{state.Unrelated, "snapshot"}:     {Status: http.StatusBadRequest, Code: validation, Reason: "UNRELATED_SNAPSHOTS"},
	{state.InvalidValue, "block"}:     {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_BLOCK"},
	{state.InvalidValue, "size"}:      {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_VOLUME_SIZE"},
	{state.InvalidValue, "tag"}:       {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_TAG"},
	{state.Limit, "tag"}:              {Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_TAG"},
	{state.Busy, "block"}:             {Status: http.StatusBadRequest, Code: validation, Reason: "CONFLICTING_BLOCK_UPDATE"},
	{state.Limit, "pending snapshot"}: {Status: http.StatusBadRequest, Code: concurrent},
	{state.Limit, "snapshot"}:         {Status: http.StatusPaymentRequired, Code: quota, Reason: "DEPENDENCY_SERVICE_QUOTA_EXCEEDED"},
	{state.TokenMismatch, "token"}:    {Status: http.StatusConflict, Code: conflict},
}

func fromState(e *state.Error) *Error {
	out, ok := codes[refusalKey{e.Kind, e.Resource}]
	if !ok {
		out = Error{Status: http.StatusBadRequest, Code: validation, Reason: "INVALID_PARAMETER_VALUE"}
	}
	out.Message = e.Error()
	return &out
}

// authError returns the error response for an error of the Authorizer. Source:
// https://docs.aws.amazon.com/ebs/latest/APIReference/CommonErrors.html
func authError(err error) *Error {
	code := badSignature
	switch {
	case errors.Is(err, sigv4.ErrMissing):
		code = "MissingAuthenticationTokenException"
	case errors.Is(err, sigv4.ErrUnknownKey), errors.Is(err, sigv4.ErrToken):
		code = "UnrecognizedClientException"
	case errors.Is(err, sigv4.ErrSessionEnded):
		code = "ExpiredTokenException"
	}
	return refuse(http.StatusForbidden, code, "", "The request cannot be authenticated: %v", err)
}

// errorBody is the body of an error response.
type errorBody struct {
	Message string
	Reason  string `json:",omitempty"`
}

// send writes an error response.
func send(w http.ResponseWriter, e *Error) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", e.Code)
	w.Header().Set(requestID, rand.Text())
	w.WriteHeader(e.Status)
	_ = json.NewEncoder(w).Encode(errorBody{e.Message, e.Reason}) // an error means that the client is gone
}

// Refuse responds with an error. A reason may follow the code after a slash.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	code, reason, _ := strings.Cut(code, "/")
	send(w, &Error{status, code, reason, message})
}

// faults are the errors of a throttled, failed, unavailable or forbidden call, by the name of the
// fault.
var faults = map[string]struct {
	status        int
	code, message string
}{
	"throttled":         {http.StatusBadRequest, throttled + "/ACCOUNT_THROTTLED", accountThrottled},
	"throttled-account": {http.StatusBadRequest, throttled + "/ACCOUNT_THROTTLED", accountThrottled},
	"throttled-call":    {http.StatusBadRequest, throttled + "/RESOURCE_LEVEL_THROTTLE", snapshotThrottled},
	"internal":          {http.StatusInternalServerError, internal, "An internal error has occurred"},
	"unavailable":       {http.StatusServiceUnavailable, "ServiceUnavailableException", "The service is unavailable"},
	"denied":            {http.StatusForbidden, denied + "/UNAUTHORIZED_ACCOUNT", "The call is not authorized"},
}

// Fault returns the error response for a named fault: throttled, throttled-account,
// throttled-call, internal, unavailable or denied.
func (h *Handler) Fault(name string) (status int, code, message string) {
	f, ok := faults[name]
	if !ok {
		f = faults["internal"]
	}
	return f.status, f.code, f.message
}
