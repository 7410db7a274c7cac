package ec2

import (
	"errors"
	"net/http"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// errDryRun is the error of a dry run that succeeded.
var errDryRun = &query.Error{
	Status: http.StatusPreconditionFailed, Code: "DryRunOperation",
	Message: "Request would have succeeded, but DryRun flag is set.",
}

// wireError returns the error response for an error of the state or of loopcloud itself.
func wireError(err error) *query.Error {
	var refusal *state.Error
	if errors.As(err, &refusal) {
		return fromState(refusal)
	}
	return &query.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: "An internal error has occurred: " + err.Error()}
}

// authError returns the error response for an error of the Authorizer. Like EC2, it does not
// reveal whether the key or the secret is wrong.
func authError(err error) *query.Error {
	if errors.Is(err, sigv4.ErrExpired) || errors.Is(err, sigv4.ErrSessionEnded) {
		return query.Refuse("RequestExpired", "Request has expired: %v", err)
	}
	return &query.Error{
		Status: http.StatusUnauthorized, Code: "AuthFailure",
		Message: "AWS was not able to validate the provided access credentials",
	}
}

// refusalKey is a kind of refusal of the state and the resource that is refused; "" is any
// resource.
type refusalKey struct {
	kind     state.Kind
	resource string
}

// codes maps the refusals of the state to EC2's error codes.
var codes = map[refusalKey]string{
	{state.NotFound, "volume"}:   "InvalidVolume.NotFound",
	{state.NotFound, "snapshot"}: "InvalidSnapshot.NotFound",
	{state.NotFound, "image"}:    "InvalidAMIID.NotFound",
	{state.NotFound, "instance"}: "InvalidInstanceID.NotFound",
	{state.NotFound, "zone"}:     "InvalidZone.NotFound",
	{state.NotFound, "region"}:   "InvalidRegion",
	{state.NotFound, ""}:         "InvalidID",

	{state.Malformed, "volume"}:   "InvalidVolumeID.Malformed",
	{state.Malformed, "snapshot"}: "InvalidSnapshotID.Malformed",
	{state.Malformed, "image"}:    "InvalidAMIID.Malformed",
	{state.Malformed, "instance"}: "InvalidInstanceID.Malformed",
	{state.Malformed, "key"}:      "InvalidParameterValue",
	{state.Malformed, ""}:         "InvalidID",

	{state.WrongState, "image"}:        "InvalidAMIID.Unavailable",
	{state.WrongState, "modification"}: "IncorrectModificationState",
	{state.WrongState, ""}:             "IncorrectState",

	{state.InUse, "volume"}:   "VolumeInUse",
	{state.InUse, "snapshot"}: "InvalidSnapshot.InUse",
	{state.InUse, ""}:         "InvalidParameterValue",

	{state.Duplicate, "image"}: "InvalidAMIName.Duplicate",
	{state.Duplicate, ""}:      "InvalidParameterValue",

	{state.InvalidValue, "device"}:   "InvalidAttachment.NotFound", // of DetachVolume; for mappings see badMapping
	{state.InvalidValue, "instance"}: "InvalidAttachment.NotFound",
	{state.InvalidValue, "key"}:      "InvalidParameterDependency",
	{state.InvalidValue, "name"}:     "InvalidAMIName.Malformed",
	{state.InvalidValue, "volume"}:   "UnknownVolumeType",
	{state.InvalidValue, "zone"}:     "InvalidVolume.ZoneMismatch",
	{state.InvalidValue, ""}:         "InvalidParameterValue",

	{state.Missing, ""}:       "MissingParameter",
	{state.TokenMismatch, ""}: "IdempotentParameterMismatch",

	{state.NotAllowed, "image"}:    "AuthFailure",
	{state.NotAllowed, "snapshot"}: "AuthFailure",
	{state.NotAllowed, ""}:         "OperationNotPermitted",

	{state.Protected, ""}: "OperationNotPermitted",

	{state.Secret, "image"}:         "UnsupportedOperation",
	{state.Secret, "snapshot"}:      "OperationNotPermitted",
	{state.Unshareable, "image"}:    "InvalidParameter",
	{state.Unshareable, "snapshot"}: "OperationNotPermitted",

	{state.Unsuited, ""}:   "InvalidParameterCombination",
	{state.Unreadable, ""}: "InvalidRequest",

	{state.Limit, "instance"}:     "AttachmentLimitExceeded",
	{state.Limit, "tag"}:          "TagLimitExceeded",
	{state.Limit, "modification"}: "VolumeModificationRateExceeded",
	{state.Limit, ""}:             "ResourceLimitExceeded",
}

// texts holds the messages of EC2 that clients are known to show or to parse; {id} is the ID, {by}
// the ID of the resource that uses it, and {why} the message of the state. The other refusals have the message of the state.
var texts = map[refusalKey]string{
	{state.NotFound, "volume"}:         "The volume '{id}' does not exist.",
	{state.NotFound, "snapshot"}:       "The snapshot '{id}' does not exist.",
	{state.NotFound, "image"}:          "The image id '[{id}]' does not exist",
	{state.NotFound, "instance"}:       "The instance ID '{id}' does not exist",
	{state.NotFound, "zone"}:           "The zone '{id}' does not exist.",
	{state.Malformed, "tag"}:           "The ID '{id}' is not valid",
	{state.InUse, "device"}:            "Invalid value '{id}' for unixDevice. Attachment point {id} is already in use",
	{state.InUse, "snapshot"}:          "The snapshot {id} is currently in use by {by}",
	{state.InUse, "volume"}:            "Volume {id} is currently attached to {by}",
	{state.WrongState, "root"}:         "{why}",
	{state.Duplicate, "image"}:         "AMI name {id} is already in use: {why}",
	{state.Missing, "device"}:          "The request must contain the parameter rootDeviceName or device",
	{state.Missing, "iops"}:            "The request must contain the parameter iops: {why}",
	{state.Missing, "size"}:            "The request must contain the parameter size/snapshot",
	{state.NotAllowed, "image"}:        "Not authorized for image:{id} ({why})",
	{state.NotAllowed, "snapshot"}:     "Not authorized for snapshot:{id} ({why})",
	{state.Secret, "image"}:            "{why}",
	{state.Secret, "snapshot"}:         "{why}",
	{state.Unshareable, "image"}:       "{why}",
	{state.Unshareable, "snapshot"}:    "{why}",
	{state.TokenMismatch, "token"}:     "The client token {id} is not the token of this request: {why}",
	{state.InvalidValue, "key"}:        "The parameter KmsKeyId requires the parameter Encrypted to be set.",
	{state.Malformed, "key"}:           "Value ({id}) for parameter kmsKeyId is invalid: {why}",
	{state.InvalidValue, "iops"}:       "{why}",
	{state.InvalidValue, "throughput"}: "{why}",
	{state.Unsuited, "iops"}:           "{why}",
	{state.Unsuited, "throughput"}:     "{why}",
	{state.Unreadable, "image"}:        "{why}",
	{state.InvalidValue, "instance"}:   "The volume is not attached to {id}: {why}",
}

func fromState(e *state.Error) *query.Error {
	if e.Kind == state.DryRun {
		return errDryRun
	}
	code, ok := codes[refusalKey{e.Kind, e.Resource}]
	if !ok {
		code = codes[refusalKey{e.Kind, ""}]
	}
	message := e.Error()
	if text, ok := texts[refusalKey{e.Kind, e.Resource}]; ok {
		message = strings.NewReplacer("{id}", e.ID, "{by}", e.By, "{why}", e.Message).Replace(text)
	}
	out := query.Refuse(code, "%s", message)
	if code == "AuthFailure" {
		out.Status = http.StatusForbidden
	}
	return out
}

// faults are the errors of a throttled, failed, unavailable or forbidden call, by the name of the
// fault. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
var faults = map[string]*query.Error{
	"throttled":   {Status: http.StatusServiceUnavailable, Code: "RequestLimitExceeded", Message: "Request limit exceeded."},
	"internal":    {Status: http.StatusInternalServerError, Code: "InternalError", Message: "An internal error has occurred"},
	"unavailable": {Status: http.StatusServiceUnavailable, Code: "Unavailable", Message: "The service is unavailable. Please try again shortly."},
	"denied": {Status: http.StatusForbidden, Code: "UnauthorizedOperation",
		Message: "You are not authorized to perform this operation. Encoded authorization failure message: bG9vcGNsb3VkIHdhcyB0b2xkIHRv"},
}

// Fault returns the error response for a named fault: throttled, internal, unavailable or denied.
// EC2 has one kind of throttling only.
func (h *Handler) Fault(name string) (status int, code, message string) {
	name, _, _ = strings.Cut(name, "-")
	e, ok := faults[name]
	if !ok {
		e = faults["internal"]
	}
	return e.Status, e.Code, e.Message
}
