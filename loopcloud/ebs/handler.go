package ebs

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// Path is the beginning of the path of every request.
const Path = "/snapshots"

// maxBody is the largest body of a request, in bytes: a block and some room.
const maxBody = state.BlockSize + 1<<10

// Handler is the endpoint of the EBS direct APIs of every region.
type Handler struct {
	st        *state.Cloud
	authorize sigv4.Authorizer
	tokens    tokens
	limits    *limits
}

// New returns a Handler of a cloud. It accepts requests whose signature the Authorizer accepts.
// Its speed and its limits are those of the cloud's timing.
func New(st *state.Cloud, authorize sigv4.Authorizer) *Handler {
	return &Handler{
		st: st, authorize: authorize,
		tokens: tokens{secret: st.Secret(), now: st.Now},
		limits: newLimits(st.Timing().Direct),
	}
}

// call is a request with its caller and the parameters of its path.
type call struct {
	*Handler
	in     *wire.Request
	caller state.Caller
	route
}

// response is a successful response: a JSON body, or a block.
type response struct {
	status int
	header map[string]string
	body   any
	block  []byte
}

// operation is an action of the API.
type operation struct {
	// kind selects the limits.
	kind kind
	do   func(c *call) (response, error)
}

// operations holds the actions by name.
var operations = map[string]operation{
	"StartSnapshot":      {starting, (*call).startSnapshot},
	"PutSnapshotBlock":   {putting, (*call).putSnapshotBlock},
	"CompleteSnapshot":   {completing, (*call).completeSnapshot},
	"ListSnapshotBlocks": {listing, (*call).listSnapshotBlocks},
	"ListChangedBlocks":  {comparing, (*call).listChangedBlocks},
	"GetSnapshotBlock":   {getting, (*call).getSnapshotBlock},
}

// route is the action of a path, and the parameters in the path.
type route struct{ action, snapshot, index string }

// routeOf returns the route of a request. Its action is "" if there is none.
func routeOf(r *http.Request) route {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, Path), "/")[1:]
	switch {
	case len(parts) == 0 && r.Method == http.MethodPost && r.URL.Path == Path:
		return route{action: "StartSnapshot"}
	case len(parts) == 2 && r.Method == http.MethodPost && parts[0] == "completion":
		return route{action: "CompleteSnapshot", snapshot: parts[1]}
	case len(parts) == 2 && r.Method == http.MethodGet && parts[1] == "blocks":
		return route{action: "ListSnapshotBlocks", snapshot: parts[0]}
	case len(parts) == 2 && r.Method == http.MethodGet && parts[1] == "changedblocks":
		return route{action: "ListChangedBlocks", snapshot: parts[0]}
	case len(parts) == 3 && r.Method == http.MethodGet && parts[1] == "blocks":
		return route{action: "GetSnapshotBlock", snapshot: parts[0], index: parts[2]}
	case len(parts) == 3 && r.Method == http.MethodPut && parts[1] == "blocks":
		return route{action: "PutSnapshotBlock", snapshot: parts[0], index: parts[2]}
	}
	return route{}
}

// Action returns the name of the requested action.
func (h *Handler) Action(r *wire.Request) string { return routeOf(r.HTTP).action }

// ServeHTTP reads a request and serves it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := wire.Read(w, r, maxBody)
	if err != nil {
		h.Refuse(w, http.StatusBadRequest, validation+"/INVALID_PARAMETER_VALUE", err.Error())
		return
	}
	h.Serve(w, in) //nolint:contextcheck // the request has its context
}

// Serve responds to a request.
func (h *Handler) Serve(w http.ResponseWriter, r *wire.Request) {
	out, err := h.respond(r)
	if err != nil {
		send(w, wireError(err))
		return
	}
	h.send(w, out)
}

func (h *Handler) respond(r *wire.Request) (response, error) {
	c := &call{Handler: h, in: r, route: routeOf(r.HTTP)}
	op, ok := operations[c.action]
	if !ok {
		return response{}, refuse(http.StatusNotFound, "UnknownOperationException", "", "There is no %s %s", r.HTTP.Method, r.HTTP.URL.Path)
	}
	if err := r.CheckSize(maxBody); err != nil {
		return response{}, invalid("INVALID_PARAMETER_VALUE", "The body is too large: %v", err)
	}
	var err error
	if c.caller, err = h.authorize(r.HTTP, r.Body, sigv4.EBS); err != nil {
		return response{}, authError(err)
	}
	if err := h.limits.wait(r.HTTP.Context(), op.kind, c.caller, c.snapshot); err != nil {
		return response{}, err
	}
	return op.do(c)
}

// send writes a successful response.
func (h *Handler) send(w http.ResponseWriter, out response) {
	w.Header().Set(requestID, rand.Text())
	for name, value := range out.header {
		w.Header().Set(name, value)
	}
	if out.block != nil {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(out.status)
		_, _ = w.Write(out.block) // an error means that the client is gone
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(out.status)
	_ = json.NewEncoder(w).Encode(out.body) // likewise
}

// requestID is the header that identifies a request.
const requestID = "X-Amzn-Requestid"
