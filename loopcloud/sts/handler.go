package sts

import (
	"encoding/xml"
	"net/http"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Version is the only supported version of the API.
const Version = "2011-06-15"

// Handler is the STS endpoint of every region.
type Handler struct{ *query.Handler }

// New returns a Handler of a cloud. It accepts requests whose signature the Authorizer accepts,
// and those that need no signature.
func New(st *state.Cloud, authorize sigv4.Authorizer) *Handler {
	return &Handler{query.New(query.Service{
		Name: sigv4.STS, Authorize: authorize, Unauthorized: authError,
		MaxBody:  1 << 18, // one with a web identity token of 20 KB
		BodyName: "query string", Repeated: "MalformedQueryString",
		Header:  map[string]string{"Content-Type": "text/xml"},
		Answer:  func(r *query.Request) (query.Document, error) { return respond(r, st) },
		Refusal: wireError, Failure: failure,
	})}
}

// respond authorizes a request and runs its action.
func respond(r *query.Request, st *state.Cloud) (query.Document, error) {
	none := query.Document{}
	f, err := r.Form()
	if err != nil {
		return none, err
	}
	name, version, err := f.TakeAction()
	if err != nil {
		return none, err
	}
	act, ok := actions[name]
	if version != Version || !ok {
		return none, query.Refuse("InvalidAction", "Could not find operation %s for version %s", name, version)
	}
	c := &call{st: st, form: f}
	if !act.unsigned {
		if c.caller, err = r.Caller(); err != nil {
			return none, err
		}
		c.key, _ = st.Key(sigv4.KeyID(r.HTTP))
	}
	out, err := act.do(c)
	return document(name+"Response", response{Result: result{name + "Result", out}, ID: r.ID}), err
}

// response is the content of every response.
type response struct {
	Result result
	ID     string `xml:"ResponseMetadata>RequestId"`
}

// result is the result of an action. The name of its element contains the action's name.
type result struct {
	name  string
	value any
}

// MarshalXML encodes the result under its name.
func (r result) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	return e.EncodeElement(r.value, xml.StartElement{Name: xml.Name{Local: r.name}})
}

// errorBody is the content of every error response.
type errorBody struct {
	Type    string `xml:"Error>Type"`
	Code    string `xml:"Error>Code"`
	Message string `xml:"Error>Message"`
	ID      string `xml:"RequestId"`
}

func failure(e *query.Error, id string) query.Document {
	fault := "Sender"
	if e.Status >= http.StatusInternalServerError {
		fault = "Receiver"
	}
	return document("ErrorResponse", errorBody{fault, e.Code, e.Message, id})
}

func document(root string, content any) query.Document {
	return query.Document{Root: root, Namespace: "https://sts.amazonaws.com/doc/" + Version + "/", Content: content}
}
