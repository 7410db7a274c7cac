package ec2

import (
	"encoding/xml"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Handler is the EC2 endpoint of every region: which one is meant stands in the
// request's signature.
type Handler struct{ *query.Handler }

// New makes a Handler of a cloud. It takes requests whose signature the
// Authorizer accepts.
func New(st *state.Cloud, authorize sigv4.Authorizer) *Handler {
	return &Handler{query.New(query.Service{
		Name: sigv4.EC2, Authorize: authorize, Unauthorized: authError,
		MaxBody:  1 << 20, // RegisterImage with 64 KiB of UEFI data, escaped
		BodyName: "request body", Repeated: "InvalidParameterCombination", Prologue: xml.Header,
		Header:  map[string]string{"Content-Type": "text/xml;charset=UTF-8", "Cache-Control": "no-cache, no-store"},
		Answer:  func(r *query.Request) (query.Document, error) { return answerTo(r, st) },
		Refusal: wireError, Failure: failure,
	})}
}

// answerTo does what the request asks for.
func answerTo(r *query.Request, st *state.Cloud) (query.Document, error) {
	none := query.Document{}
	caller, err := r.Caller()
	if err != nil {
		return none, err
	}
	f, err := r.Form()
	if err != nil {
		return none, err
	}
	name, act, err := choose(f)
	if err != nil {
		return none, err
	}
	out, err := act(&call{st: st, request: r, caller: caller, action: name}, f)
	if err != nil {
		return none, err
	}
	out.setRequestID(r.ID)
	return query.Document{Root: name + "Response", Namespace: namespace, Content: out}, nil
}

const (
	// apiVersion is the only version of the API that is spoken.
	apiVersion = "2016-11-15"
	namespace  = "http://ec2.amazonaws.com/doc/" + apiVersion + "/"
)

// choose takes the action from the form.
func choose(f query.Form) (string, action, error) {
	name, version, err := f.TakeAction()
	act, ok := actions[name]
	switch {
	case err != nil:
	case version == "":
		err = query.Refuse("MissingParameter", "The request must contain the parameter Version")
	case version != apiVersion:
		err = query.Refuse("NoSuchVersion", "The requested version (%s) of service AmazonEC2 does not exist", version)
	case !ok:
		err = query.Refuse("InvalidAction", "The action %s is not valid for this web service.", name)
	}
	return name, act, err
}

// call is one request: on whose behalf, where, and what for.
type call struct {
	st      *state.Cloud
	request *query.Request
	caller  state.Caller
	action  string
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
type action func(*call, query.Form) (response, error)

// changing makes an action of a function that changes something; it hands DryRun
// on to the state.
func changing[In any, Out response](act func(*call, *In) (Out, error)) action {
	return func(c *call, f query.Form) (response, error) {
		in := new(In)
		if err := f.Decode(in); err != nil {
			return nil, err
		}
		return act(c, in)
	}
}

// reading makes an action of a function that only reads: with DryRun, it is done
// and its answer kept back.
func reading[In interface{ isDryRun() bool }, Out response](act func(*call, *In) (Out, error)) action {
	return func(c *call, f query.Form) (response, error) {
		in := new(In)
		if err := f.Decode(in); err != nil {
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

func failure(e *query.Error, id string) query.Document {
	return query.Document{Root: "Response", Content: errorBody{Code: e.Code, Message: e.Message, RequestID: id}}
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
