package imds

import (
	"fmt"
	"html"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// The headers of version 2.
const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// maxTTL is the longest lifetime of a token: six hours.
const maxTTL = 6 * 60 * 60

// tokenPath is the path that issues tokens.
const tokenPath = "api/token"

// versions are the supported first parts of paths: those that clients use. All have the same
// content.
var versions = []string{"1.0", "2009-04-04", "2016-09-02", "2018-09-24", "2021-03-23", "latest"}

// Handler is the metadata service of the machine that loopcloud runs on, as the first account
// sees it in the default region.
type Handler struct {
	st     *state.Cloud
	number int
	// Hops is the distance of the clients in network hops: 1 on the machine itself, more in a
	// container with its own network. 0 means 1.
	Hops   int
	tokens tokens
	role   role
}

// New returns a Handler of a cloud. The tokens that it issues are valid for this Handler only.
func New(st *state.Cloud) *Handler { return NewOf(st, 0) }

// NewOf is like New, for one of several hosts, from 0 on.
func NewOf(st *state.Cloud, number int) *Handler {
	return &Handler{st: st, number: number, tokens: newTokens()}
}

// Action returns the path of a request without the version, such as meta-data/instance-id
// or api/token. It is "" if the service has no such path.
func (h *Handler) Action(r *wire.Request) string { return entryPath(r.HTTP) }

// entryPath returns the path below the version, "" if the version is unknown.
func entryPath(r *http.Request) string {
	version, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !slices.Contains(versions, version) {
		return ""
	}
	return strings.Trim(path, "/")
}

// Refuse responds with an error page of the service. The pages have no code.
func (h *Handler) Refuse(w http.ResponseWriter, status int, _, message string) {
	title := strings.TrimSpace(fmt.Sprintf("%d - %s", status, http.StatusText(status)))
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, errorPage, title, title, html.EscapeString(message)) // an error means that the client is gone
}

const errorPage = `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head><title>%s</title></head>
 <body><h1>%s</h1><p>%s</p></body>
</html>
`

// refuse responds with a status and no message.
func (h *Handler) refuse(w http.ResponseWriter, status int) { h.Refuse(w, status, "", "") }

// Serve responds to a request.
func (h *Handler) Serve(w http.ResponseWriter, r *wire.Request) { h.ServeHTTP(w, r.HTTP) }

// ServeHTTP responds to a request. A service that is turned off refuses all requests.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isToken := entryPath(r) == tokenPath
	switch options := h.options(); {
	case options.Disabled:
		h.refuse(w, http.StatusForbidden)
	case r.Method == http.MethodPut && isToken && max(h.Hops, 1) > options.Hops():
		<-r.Context().Done() // the response is lost on its way
	case r.Method == http.MethodPut && isToken:
		h.issueToken(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead, isToken:
		h.refuse(w, http.StatusMethodNotAllowed)
	case !h.mayRead(r, options):
		h.refuse(w, http.StatusUnauthorized)
	default:
		h.read(w, r)
	}
}

// issueToken responds with a token. A request that came through a proxy gets none, so that an
// open proxy on the machine does not reveal tokens.
func (h *Handler) issueToken(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Forwarded-For") != "" {
		h.refuse(w, http.StatusForbidden)
		return
	}
	seconds, err := strconv.Atoi(r.Header.Get(ttlHeader))
	if err != nil || seconds < 1 || seconds > maxTTL {
		h.refuse(w, http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, strconv.Itoa(seconds))
	writeText(w, h.tokens.issue(h.st.Now().Add(time.Duration(seconds)*time.Second)))
}

// options returns the machine's metadata options. A machine that is no VM has no metadata.
func (h *Handler) options() state.MetadataOptions {
	vm, isHost := h.st.HostVMs(h.st.DefaultRegion(), h.number)
	if !isHost {
		return state.MetadataOptions{Disabled: true}
	}
	return vm.Metadata
}

// mayRead reports whether a request has a valid token, or none, as in version 1, if none is
// required.
func (h *Handler) mayRead(r *http.Request, options state.MetadataOptions) bool {
	token, given := r.Header[tokenHeader]
	if !given {
		return !options.TokensRequired
	}
	return h.tokens.isValid(token[0], h.st.Now())
}

func (h *Handler) read(w http.ResponseWriter, r *http.Request) {
	vm, ok := h.st.HostVMs(h.st.DefaultRegion(), h.number)
	path := strings.Trim(r.URL.Path, "/")
	if path == "" {
		writeText(w, strings.Join(versions, "\n"))
		return
	}
	if version, _, _ := strings.Cut(path, "/"); !ok || !slices.Contains(versions, version) {
		h.refuse(w, http.StatusNotFound)
		return
	}
	text, ok := h.entries(vm).at(entryPath(r))
	if !ok {
		h.refuse(w, http.StatusNotFound)
		return
	}
	writeText(w, text)
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Server", "EC2ws")
	_, _ = io.WriteString(w, text) // an error means that the client is gone
}

// faultStatuses are the statuses of a throttled or unavailable service (503) and of one that is
// turned off (403).
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
var faultStatuses = map[string]int{
	"throttled": http.StatusServiceUnavailable, "unavailable": http.StatusServiceUnavailable,
	"denied": http.StatusForbidden,
}

// Fault returns the error response for a named fault: throttled, internal, unavailable or denied.
// The errors of the service have no code.
func (h *Handler) Fault(name string) (status int, code, message string) {
	name, _, _ = strings.Cut(name, "-") // it has one kind of throttling only
	if status, ok := faultStatuses[name]; ok {
		return status, "", ""
	}
	return http.StatusInternalServerError, "", ""
}
