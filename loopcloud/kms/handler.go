package kms

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

const (
	// target is the beginning of the header that names the action.
	target = "TrentService."
	// maxBody is the largest body of a request, in bytes.
	maxBody = 1 << 16
	// contentType is the content type of requests and responses.
	contentType = "application/x-amz-json-1.1"
)

// Handler is the KMS endpoint of every region.
type Handler struct {
	authorize sigv4.Authorizer
}

// New returns a Handler. It accepts requests whose signature the Authorizer accepts.
func New(authorize sigv4.Authorizer) *Handler { return &Handler{authorize} }

// Asked reports whether a request is for KMS.
func Asked(r *http.Request) bool { return strings.HasPrefix(r.Header.Get("X-Amz-Target"), target) }

// Action returns the name of the requested action.
func (h *Handler) Action(r *wire.Request) string {
	return strings.TrimPrefix(r.HTTP.Header.Get("X-Amz-Target"), target)
}

// Refuse responds with an error in KMS's form.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	send(w, status, map[string]string{"__type": code, "message": message})
}

func send(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an error means that the client is gone
}

// key is KMS's description of a key.
type key struct {
	Account string `json:"AWSAccountId"`
	ID      string `json:"KeyId"`
	ARN     string `json:"Arn"`
	Manager string `json:"KeyManager"`
	State   string `json:"KeyState"`
	Enabled bool
}

// ServeHTTP reads a request and serves it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := wire.Read(w, r, maxBody)
	if err != nil {
		h.Refuse(w, http.StatusRequestEntityTooLarge, "ValidationException", err.Error())
		return
	}
	h.Serve(w, in)
}

// Serve responds to a request. The only action is DescribeKey.
func (h *Handler) Serve(w http.ResponseWriter, r *wire.Request) {
	if err := r.CheckSize(maxBody); err != nil {
		h.Refuse(w, http.StatusRequestEntityTooLarge, "ValidationException", err.Error())
		return
	}
	caller, err := h.authorize(r.HTTP, r.Body, sigv4.KMS)
	if err != nil {
		h.Refuse(w, http.StatusBadRequest, "UnrecognizedClientException", "The security token included in the request is invalid: "+err.Error())
		return
	}
	if action := h.Action(r); action != "DescribeKey" {
		h.Refuse(w, http.StatusBadRequest, "UnknownOperationException", "There is no action "+action)
		return
	}
	var in struct{ KeyId string } //nolint:revive // the wire's name
	if err := json.Unmarshal(r.Body, &in); err != nil || in.KeyId == "" {
		h.Refuse(w, http.StatusBadRequest, "ValidationException", "keyId must not be null")
		return
	}
	found, err := describe(caller, in.KeyId)
	if err != nil {
		h.Refuse(w, http.StatusBadRequest, "NotFoundException", err.Error())
		return
	}
	send(w, http.StatusOK, map[string]key{"KeyMetadata": found})
}

// describe returns the description of a key.
func describe(caller state.Caller, name string) (key, error) {
	if !state.KeyExists(caller, name) {
		return key{}, fmt.Errorf("Key '%s' does not exist", name) //nolint:staticcheck // KMS's words
	}
	k := key{ARN: state.KeyARN(caller, name), Manager: "CUSTOMER", State: "Enabled", Enabled: true}
	if state.Managed(k.ARN) {
		k.Manager = "AWS"
	}
	fields := strings.SplitN(k.ARN, ":", 6)
	k.Account, k.ID = fields[4], strings.TrimPrefix(fields[5], "key/")
	return k, nil
}
