package sts

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

const (
	// Version is the only version of the API that is spoken.
	Version   = "2011-06-15"
	namespace = "https://sts.amazonaws.com/doc/" + Version + "/"

	// maxBody is more than the largest request there is: one with a web identity
	// token of 20 KB.
	maxBody = 1 << 18
)

// Handler is the STS endpoint of every region.
type Handler struct {
	st        *state.Cloud
	authorize sigv4.Authorizer
}

// New makes a Handler of a cloud. It takes requests whose signature the Authorizer
// accepts, and those that need none.
func New(st *state.Cloud, authorize sigv4.Authorizer) *Handler {
	return &Handler{st: st, authorize: authorize}
}

// Action tells which action a request asks for, "" if none.
func (h *Handler) Action(r *http.Request, body []byte) string {
	f, err := parse(r, body)
	if err != nil {
		return ""
	}
	return f["Action"]
}

// Refuse answers a request with an error of STS's form.
func (h *Handler) Refuse(w http.ResponseWriter, status int, code, message string) {
	writeError(w, &apiError{Status: status, Code: code, Message: message})
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		writeError(w, refuse("MalformedQueryString", "The request body cannot be read: %v", err))
		return
	}
	name, result, err := h.answer(r, body)
	if err != nil {
		writeError(w, wireError(err))
		return
	}
	write(w, http.StatusOK, name+"Response", func(e *xml.Encoder, id string) error {
		return errors.Join(
			e.EncodeElement(result, element(name+"Result")),
			e.EncodeElement(struct {
				RequestID string `xml:"RequestId"`
			}{id}, element("ResponseMetadata")),
		)
	})
}

// answer does what the request asks for, and names the action.
func (h *Handler) answer(r *http.Request, body []byte) (string, any, error) {
	f, err := parse(r, body)
	if err != nil {
		return "", nil, err
	}
	name, version := f["Action"], f["Version"]
	act, ok := actions[name]
	switch {
	case name == "":
		return "", nil, refuse("MissingAction", "The request must contain the parameter Action")
	case version != Version || !ok:
		return "", nil, refuse("InvalidAction", "Could not find operation %s for version %s", name, version)
	}
	delete(f, "Action")
	delete(f, "Version")
	c := &call{st: h.st, form: f}
	if !act.unsigned {
		if c.caller, err = h.authorize(r, body, sigv4.STS); err != nil {
			return "", nil, authError(err)
		}
		c.key, _ = h.st.Key(sigv4.KeyID(r))
	}
	result, err := act.do(c)
	return name, result, err
}

// form is the parameters of a request, by name.
type form map[string]string

// parse reads the parameters from the query and, of a POST, from the body. Those
// that carry a signature are left out.
func parse(r *http.Request, body []byte) (form, error) {
	text := r.URL.RawQuery
	if r.Method == http.MethodPost && len(body) > 0 {
		text += "&" + string(body)
	}
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, refuse("MalformedQueryString", "The query string contains a syntax error.")
	}
	f := form{}
	for name, list := range values {
		if len(list) > 1 {
			return nil, refuse("MalformedQueryString", "The parameter %s is given more than once", name)
		}
		if !strings.HasPrefix(name, "X-Amz-") {
			f[name] = list[0]
		}
	}
	return f, nil
}

// errorBody is the form of all of STS's errors.
type errorBody struct {
	Type, Code, Message string
}

func writeError(w http.ResponseWriter, err *apiError) {
	fault := "Sender"
	if err.Status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	write(w, err.Status, "ErrorResponse", func(e *xml.Encoder, id string) error {
		return errors.Join(
			e.EncodeElement(errorBody{fault, err.Code, err.Message}, element("Error")),
			e.EncodeElement(id, element("RequestId")),
		)
	})
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

// write answers with a document whose content is told the request's id.
func write(w http.ResponseWriter, status int, root string, content func(e *xml.Encoder, id string) error) {
	id := requestID()
	var buf bytes.Buffer
	e := xml.NewEncoder(&buf)
	start := element(root)
	start.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}}
	if err := errors.Join(e.EncodeToken(start), content(e, id), e.EncodeToken(start.End()), e.Flush()); err != nil {
		http.Error(w, fmt.Sprintf("cannot encode the answer to request %s: %v", id, err), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/xml")
	header.Set("Content-Length", strconv.Itoa(buf.Len()))
	header.Set("X-Amzn-Requestid", id)
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a client that went away misses its answer
}

// requestID makes up a UUID, the form of AWS's request ids.
func requestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
