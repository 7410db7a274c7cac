package ec2

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

const (
	// apiVersion is the only version of the API that is spoken.
	apiVersion = "2016-11-15"
	namespace  = "http://ec2.amazonaws.com/doc/" + apiVersion + "/"

	// maxBody is more than the largest request there is: RegisterImage with 64 KiB
	// of UEFI data, escaped.
	maxBody = 1 << 20
)

// Handler is the EC2 endpoint of every region: which one is meant stands in the
// request's signature.
type Handler struct {
	st        *state.Cloud
	authorize sigv4.Authorizer
}

// New makes a Handler of a cloud. It takes requests whose signature the
// Authorizer accepts.
func New(st *state.Cloud, authorize sigv4.Authorizer) *Handler {
	return &Handler{st: st, authorize: authorize}
}

// Action tells which action a request asks for, "" if none.
func (h *Handler) Action(r *http.Request, body []byte) string {
	f, err := parseForm(r, body)
	if err != nil {
		return ""
	}
	return f["Action"]
}

// Refuse answers a request with an error of EC2's form.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	writeError(w, newRequestID(), &apiError{Status: status, Code: code, Message: message})
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := newRequestID()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeError(w, id, refuse("MalformedQueryString", "The request body cannot be read: %v", err))
		return
	}
	name, out, err := h.answer(r, body)
	if err != nil {
		writeError(w, id, wireError(err))
		return
	}
	out.setRequestID(id)
	writeXML(w, http.StatusOK, id, out, xml.StartElement{
		Name: xml.Name{Local: name + "Response"},
		Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}},
	})
}

// answer does what the request asks for, and names the action.
func (h *Handler) answer(r *http.Request, body []byte) (string, response, error) {
	caller, err := h.authorize(r, body, sigv4.EC2)
	if err != nil {
		return "", nil, authError(err)
	}
	f, err := parseForm(r, body)
	if err != nil {
		return "", nil, err
	}
	name, version := f["Action"], f["Version"]
	if err := checkVersion(name, version); err != nil {
		return "", nil, err
	}
	act, ok := actions[name]
	if !ok {
		return "", nil, refuse("InvalidAction", "The action %s is not valid for this web service.", name)
	}
	delete(f, "Action")
	delete(f, "Version")
	out, err := act(&call{st: h.st, caller: caller, authorize: h.authorize, action: name}, f)
	return name, out, err
}

func checkVersion(action, version string) error {
	switch {
	case action == "":
		return refuse("MissingAction", "The request must contain the parameter Action")
	case version == "":
		return refuse("MissingParameter", "The request must contain the parameter Version")
	case version != apiVersion:
		return refuse("NoSuchVersion", "The requested version (%s) of service AmazonEC2 does not exist", version)
	}
	return nil
}

// call is one request: on whose behalf, where, and what for.
type call struct {
	st        *state.Cloud
	caller    state.Caller
	authorize sigv4.Authorizer
	action    string
}

// response is what an action answers: a struct that embeds answer.
type response interface{ setRequestID(id string) }

// answer is the head of every response.
type answer struct {
	RequestID string `xml:"requestId"`
}

func (a *answer) setRequestID(id string) { a.RequestID = id }

// done is the response of an action that has nothing to tell.
type done struct {
	answer
	Return bool `xml:"return"`
}

// succeeded is done, or the error that it was not.
func succeeded(err error) (*done, error) { return &done{Return: true}, err }

// common are the parameters that every action takes.
type common struct {
	DryRun bool `query:"DryRun"`
}

func (in common) isDryRun() bool { return in.DryRun }

// action decodes the parameters, does what they ask for, and answers.
type action func(*call, form) (response, error)

// changing makes an action of a function that changes something; it hands DryRun
// on to the state.
func changing[In any, Out response](act func(*call, *In) (Out, error)) action {
	return func(c *call, f form) (response, error) {
		in := new(In)
		if err := decode(f, in); err != nil {
			return nil, err
		}
		return act(c, in)
	}
}

// reading makes an action of a function that only reads: with DryRun, it is done
// and its answer kept back.
func reading[In interface{ isDryRun() bool }, Out response](act func(*call, *In) (Out, error)) action {
	return func(c *call, f form) (response, error) {
		in := new(In)
		if err := decode(f, in); err != nil {
			return nil, err
		}
		out, err := act(c, in)
		if err == nil && (*in).isDryRun() {
			err = errDryRun
		}
		return out, err
	}
}

// errorBody is the form of all of EC2's errors. Its request id is spelt unlike
// that of the other responses.
type errorBody struct {
	Code      string `xml:"Errors>Error>Code"`
	Message   string `xml:"Errors>Error>Message"`
	RequestID string
}

func writeError(w http.ResponseWriter, id string, e *apiError) {
	body := errorBody{Code: e.Code, Message: e.Message, RequestID: id}
	writeXML(w, e.Status, id, body, xml.StartElement{Name: xml.Name{Local: "Response"}})
}

func writeXML(w http.ResponseWriter, status int, id string, body any, root xml.StartElement) {
	var buf bytes.Buffer
	buf.WriteString(xml.Header)
	if err := xml.NewEncoder(&buf).EncodeElement(body, root); err != nil {
		http.Error(w, fmt.Sprintf("cannot encode the answer to request %s: %v", id, err), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/xml;charset=UTF-8")
	header.Set("Content-Length", strconv.Itoa(buf.Len()))
	header.Set("Cache-Control", "no-cache, no-store")
	header.Set("X-Amzn-Requestid", id)
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a client that went away misses its answer
}

// newRequestID makes up a UUID, the form of EC2's request ids.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// set is a list as EC2 writes it: <nameSet><item>…</item></nameSet>. An empty
// one is written; one that EC2 leaves out when it is empty is a nil *set.
type set[T any] struct {
	Items []T `xml:"item"`
}

// some is a set, nil if it is empty.
func some[T any](items []T) *set[T] {
	if len(items) == 0 {
		return nil
	}
	return &set[T]{items}
}

// convert makes a set of what the function makes of each.
func convert[T, U any](in []T, one func(T) U) set[U] {
	out := set[U]{Items: make([]U, len(in))}
	for i, v := range in {
		out.Items[i] = one(v)
	}
	return out
}

// stamp is a time as EC2 writes it: UTC, milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// stampOrNone is a time, left out when it is zero.
func stampOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
