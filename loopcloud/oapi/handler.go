package oapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// service is the service name passed to the Authorizer, which ignores the scope for it.
const service = "oapi"

// maxBody is the largest body of a request, in bytes.
const maxBody = 1 << 20

// Handler is the endpoint of the Outscale API: POST /api/v1/CALL and POST /api/latest/CALL.
type Handler struct {
	state   *state.Cloud
	auth    sigv4.Authorizer
	lockout lockout
}

// New returns a Handler of a cloud. It accepts requests whose signature the Authorizer accepts.
func New(st *state.Cloud, auth sigv4.Authorizer) *Handler {
	return &Handler{state: st, auth: auth, lockout: lockout{now: st.Now}}
}

// Action returns the name of the call that a request makes, such as ReadVolumes, "" if the
// path is not one of this API.
func (h *Handler) Action(r *wire.Request) string {
	for _, prefix := range []string{"/api/v1/", "/api/latest/"} {
		if name, ok := strings.CutPrefix(r.HTTP.URL.Path, prefix); ok && !strings.Contains(name, "/") {
			return name
		}
	}
	return ""
}

// ServeHTTP reads a request and serves it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := wire.Read(w, r, maxBody)
	if err != nil {
		writeError(w, unreadable(err))
		return
	}
	h.Serve(w, in)
}

func unreadable(err error) *apiError { return badJSON.with("the request cannot be read: %v", err) }

// Serve responds to a request.
func (h *Handler) Serve(w http.ResponseWriter, r *wire.Request) {
	out, err := h.run(w, r)
	switch {
	case isDryRun(err):
		write(w, http.StatusOK, &emptyResponse{})
	case err != nil:
		writeError(w, wireError(err))
	default:
		write(w, http.StatusOK, out)
	}
}

// run finds the call that a request makes, authorizes the request and runs the call.
func (h *Handler) run(w http.ResponseWriter, r *wire.Request) (response, error) {
	if err := r.CheckSize(maxBody); err != nil {
		return nil, unreadable(err)
	}
	act, ok := actions[h.Action(r)]
	switch {
	case !ok:
		return nil, unknownCall.with("there is no call %q", r.HTTP.URL.Path)
	case r.HTTP.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		return nil, wrongMethod.with("the method is POST")
	}
	caller, err := h.authorize(r.HTTP, r.Body)
	if err != nil {
		return nil, err
	}
	request := act.request()
	if err := decode(r.Body, request); err != nil {
		return nil, err
	}
	return act.run(&call{st: h.state, caller: caller, host: r.HTTP.Host}, request)
}

// isDryRun reports whether an error stands for the success of a dry run.
func isDryRun(err error) bool {
	var refused *state.Error
	return errors.Is(err, errDryRun) || errors.As(err, &refused) && refused.Kind == state.DryRun
}

// Refuse responds with an error. The code is a number of the API's error page, from which the
// type follows, or a type.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	writeError(w, &apiError{Status: status, Code: code, Type: typeOf(code), Details: message})
}

func writeError(w http.ResponseWriter, e *apiError) {
	write(w, e.Status, &errorResponse{Errors: []errorView{{e.Code, e.Type, e.Details}}})
}

func write(w http.ResponseWriter, status int, out response) {
	out.setRequestID(newUUID())
	body, err := json.Marshal(out)
	if err != nil {
		panic("a response cannot be encoded as JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // an error means that the client is gone
}
