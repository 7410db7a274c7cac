package query

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

// Service holds the differences between services.
type Service struct {
	// Name is the service name in signatures.
	Name string
	// Authorize returns the caller of a request.
	Authorize sigv4.Authorizer
	// Unauthorized returns the error response for an error of Authorize, if the request has a
	// well-formed signature.
	Unauthorized func(err error) *Error

	// MaxBody is the largest body of a request, in bytes.
	MaxBody int64
	// BodyName is the name of the body in error messages.
	BodyName string
	// Repeated is the error code for a parameter that is given more than once.
	Repeated string
	// Prologue precedes each document.
	Prologue string
	// Header is the header of every response, without the length and the request ID.
	Header map[string]string

	// Answer runs the action of a request and returns the response.
	Answer func(r *Request) (Document, error)
	// Refusal returns the error response for an error of Answer that is not an *Error.
	Refusal func(err error) *Error
	// Failure returns the document of an error response.
	Failure func(e *Error, id string) Document
}

// Request is one request to a service.
type Request struct {
	*wire.Request
	// ID is random, in the form of AWS's request ids.
	ID string

	service *Service
}

// Caller returns the caller of the request, or an error if the request is not authorized.
func (r *Request) Caller() (state.Caller, error) { return r.CallerOf(r.HTTP, r.Body) }

// CallerOf is like Caller, for another request to the same service, such as a presigned URL
// inside this one.
func (r *Request) CallerOf(other *http.Request, body []byte) (state.Caller, error) {
	caller, err := r.service.Authorize(other, body, r.service.Name)
	switch {
	case err == nil:
		return caller, nil
	case errors.Is(err, sigv4.ErrMissing):
		return caller, Forbid("MissingAuthenticationToken", "Request is missing Authentication Token")
	case errors.Is(err, sigv4.ErrMalformed):
		return caller, Refuse("IncompleteSignature", "The request signature does not conform to AWS standards: %v", err)
	}
	return caller, r.service.Unauthorized(err)
}

// Document is an XML document: the name of the root element and its content. An empty Namespace
// is omitted.
type Document struct {
	Root, Namespace string
	Content         any
}

// Handler is the endpoint of a service.
type Handler struct{ service Service }

// New returns a Handler of a service.
func New(s Service) *Handler { return &Handler{s} }

// Action returns the name of the requested action, "" if the request names none.
func (h *Handler) Action(r *wire.Request) string {
	f, err := h.request(r).Form()
	if err != nil {
		return ""
	}
	return f["Action"]
}

// Refuse responds with an error in the service's form.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	h.fail(w, newID(), &Error{Status: status, Code: code, Message: message})
}

// ServeHTTP reads a request and serves it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	in, err := wire.Read(w, r, h.service.MaxBody)
	if err != nil {
		h.fail(w, newID(), unreadable(err))
		return
	}
	h.Serve(w, in)
}

func unreadable(err error) *Error {
	return Refuse("MalformedQueryString", "The request body cannot be read: %v", err)
}

// Serve responds to a request.
func (h *Handler) Serve(w http.ResponseWriter, r *wire.Request) {
	in := h.request(r)
	if err := in.CheckSize(h.service.MaxBody); err != nil {
		h.fail(w, in.ID, unreadable(err))
		return
	}
	out, err := h.service.Answer(in)
	if err != nil {
		h.fail(w, in.ID, h.refusal(err))
		return
	}
	h.write(w, http.StatusOK, in.ID, out)
}

func (h *Handler) refusal(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return h.service.Refusal(err)
}

func (h *Handler) request(r *wire.Request) *Request {
	return &Request{Request: r, ID: newID(), service: &h.service}
}

func (h *Handler) fail(w http.ResponseWriter, id string, e *Error) {
	h.write(w, e.Status, id, h.service.Failure(e, id))
}

func (h *Handler) write(w http.ResponseWriter, status int, id string, d Document) {
	var buf bytes.Buffer
	buf.WriteString(h.service.Prologue)
	if err := xml.NewEncoder(&buf).EncodeElement(d.Content, d.start()); err != nil {
		http.Error(w, fmt.Sprintf("cannot encode the response to request %s: %v", id, err), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	for name, value := range h.service.Header {
		header.Set(name, value)
	}
	header.Set("Content-Length", strconv.Itoa(buf.Len()))
	header.Set("X-Amzn-Requestid", id)
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // an error means that the client is gone
}

func (d Document) start() xml.StartElement {
	start := xml.StartElement{Name: xml.Name{Local: d.Root}}
	if d.Namespace != "" {
		start.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: d.Namespace}}
	}
	return start
}

// newID returns a random UUID, the form of AWS's request IDs.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
