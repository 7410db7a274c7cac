package oapi

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// service is what the Authorizer is asked for. It minds no scope.
const service = "oapi"

// maxBody bounds a request, in bytes.
const maxBody = 1 << 20

// Handler answers the calls of the Outscale API: POST /api/v1/CALL, and the same
// under /api/latest.
type Handler struct {
	state *state.Cloud
	auth  sigv4.Authorizer
	guard guard
}

// New makes a Handler over a state; auth says on whose behalf a request is made.
func New(st *state.Cloud, auth sigv4.Authorizer) *Handler {
	return &Handler{state: st, auth: auth, guard: guard{now: st.Now}}
}

// request is a call under way.
type request struct {
	caller state.Caller
	host   string // that the client asked
	body   []byte
}

// calls are all that the API here has.
var calls = map[string]func(*Handler, request) (answer, error){
	"ReadAccounts":   decoded((*Handler).readAccounts),
	"ReadRegions":    decoded((*Handler).readRegions),
	"ReadSubregions": decoded((*Handler).readSubregions),
	"ReadVms":        decoded((*Handler).readVMs),
	"CreateVolume":   decoded((*Handler).createVolume),
	"ReadVolumes":    decoded((*Handler).readVolumes),
	"UpdateVolume":   decoded((*Handler).updateVolume),
	"LinkVolume":     decoded((*Handler).linkVolume),
	"UnlinkVolume":   decoded((*Handler).unlinkVolume),
	"DeleteVolume":   decoded((*Handler).deleteVolume),
	"CreateSnapshot": decoded((*Handler).createSnapshot),
	"ReadSnapshots":  decoded((*Handler).readSnapshots),
	"UpdateSnapshot": decoded((*Handler).updateSnapshot),
	"DeleteSnapshot": decoded((*Handler).deleteSnapshot),
	"CreateImage":    decoded((*Handler).createImage),
	"ReadImages":     decoded((*Handler).readImages),
	"UpdateImage":    decoded((*Handler).updateImage),
	"DeleteImage":    decoded((*Handler).deleteImage),
	"CreateTags":     decoded((*Handler).createTags),
	"ReadTags":       decoded((*Handler).readTags),
	"DeleteTags":     decoded((*Handler).deleteTags),
}

// decoded makes a call of a method that takes its parameters as a struct.
func decoded[P any](do func(*Handler, request, P) (answer, error)) func(*Handler, request) (answer, error) {
	return func(h *Handler, r request) (answer, error) {
		var params P
		if err := decode(r.body, &params); err != nil {
			return nil, err
		}
		return do(h, r, params)
	}
}

// answer is the fields of a successful answer, to which the context is added.
type answer map[string]any

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
	got, err := h.call(w, r)
	switch {
	case errors.Is(err, errDryRun):
		write(w, http.StatusOK, answer{})
	case err != nil:
		writeError(w, wireError(err))
	default:
		write(w, http.StatusOK, got)
	}
}

func (h *Handler) call(w http.ResponseWriter, r *wire.Request) (answer, error) {
	if err := r.CheckSize(maxBody); err != nil {
		return nil, unreadable(err)
	}
	do, ok := calls[h.Action(r)]
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
	got, err := do(h, request{caller: caller, host: r.HTTP.Host, body: r.Body})
	var refused *state.Error
	if errors.As(err, &refused) && refused.Kind == state.DryRun {
		err = errDryRun
	}
	return got, err
}

// Refuse answers a call with an error of the API. Code is a number of the API's
// page of errors, of which the type follows, or a type.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	writeError(w, &apiError{Status: status, Code: code, Type: typeOf(code), Details: message})
}

func writeError(w http.ResponseWriter, e *apiError) {
	type wire struct{ Code, Type, Details string }
	write(w, e.Status, answer{"Errors": []wire{{e.Code, e.Type, e.Details}}})
}

func write(w http.ResponseWriter, status int, a answer) {
	a["ResponseContext"] = map[string]string{"RequestId": newUUID()}
	body, err := json.Marshal(a)
	if err != nil {
		panic("an answer of this package has no JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that is gone needs no answer
}

// newUUID makes up a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	s := hex.EncodeToString(b[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
