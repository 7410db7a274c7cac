package ec2

import (
	"encoding/xml"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// Handler is the EC2 endpoint of every region. The signature of a request names the region.
type Handler struct{ *query.Handler }

// New returns a Handler of a cloud. It accepts requests whose signature the Authorizer accepts.
func New(st *state.Cloud, authorize sigv4.Authorizer) *Handler {
	return &Handler{query.New(query.Service{
		Name: sigv4.EC2, Authorize: authorize, Unauthorized: authError,
		MaxBody:  1 << 20, // RegisterImage with 64 KiB of UEFI data, escaped
		BodyName: "request body", Repeated: "InvalidParameterCombination", Prologue: xml.Header,
		Header:  map[string]string{"Content-Type": "text/xml;charset=UTF-8", "Cache-Control": "no-cache, no-store"},
		Answer:  func(r *query.Request) (query.Document, error) { return respond(r, st) },
		Refusal: wireError, Failure: failure,
	})}
}

// respond authorizes a request and runs its action.
func respond(r *query.Request, st *state.Cloud) (query.Document, error) {
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
	input := act.input()
	if err := f.Decode(input); err != nil {
		return none, err
	}
	out, err := act.run(&call{st: st, request: r, caller: caller, action: name}, input)
	if err != nil {
		return none, err
	}
	out.setRequestID(r.ID)
	return query.Document{Root: name + "Response", Namespace: namespace, Content: out}, nil
}

const (
	// apiVersion is the only supported version of the API.
	apiVersion = "2016-11-15"
	namespace  = "http://ec2.amazonaws.com/doc/" + apiVersion + "/"
)

// choose takes the action and the version from the form.
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

// call is one authorized request.
type call struct {
	st      *state.Cloud
	request *query.Request
	caller  state.Caller
	action  string
}

// response is the response of an action: a struct that embeds baseResponse.
type response interface{ setRequestID(id string) }

// baseResponse holds the fields of every response.
type baseResponse struct {
	RequestID string `xml:"requestId"`
}

func (r *baseResponse) setRequestID(id string) { r.RequestID = id }

// done is the response of an action that returns nothing.
type done struct {
	baseResponse
	Return bool `xml:"return"`
}

// succeeded returns an empty response, and the error of the action.
func succeeded(err error) (*done, error) { return &done{Return: true}, err }

// baseInput holds the parameters of every action.
type baseInput struct {
	DryRun bool `query:"DryRun"`
}

func (in baseInput) isDryRun() bool { return in.DryRun }

// action is an action of the API.
type action struct {
	// input returns a struct for its parameters.
	input func() any
	run   func(c *call, input any) (response, error)
}

// changing returns the action for a function that changes resources. The function passes DryRun
// on to the state.
func changing[In any, Out response](run func(*call, *In) (Out, error)) action {
	return action{
		input: func() any { return new(In) },
		run:   func(c *call, input any) (response, error) { return run(c, input.(*In)) },
	}
}

// reading returns the action for a function that only reads. With DryRun the function runs, and
// its response is discarded.
func reading[In interface{ isDryRun() bool }, Out response](run func(*call, *In) (Out, error)) action {
	return changing(func(c *call, in *In) (Out, error) {
		out, err := run(c, in)
		if err == nil && (*in).isDryRun() {
			err = errDryRun
		}
		return out, err
	})
}

// errorBody is the content of an error response. The name of its request ID differs from that of
// other responses.
type errorBody struct {
	Code      string `xml:"Errors>Error>Code"`
	Message   string `xml:"Errors>Error>Message"`
	RequestID string
}

func failure(e *query.Error, id string) query.Document {
	return query.Document{Root: "Response", Content: errorBody{Code: e.Code, Message: e.Message, RequestID: id}}
}

// set is a list in EC2's encoding: <nameSet><item>…</item></nameSet>. An empty set is encoded. A
// list that EC2 omits if it is empty is a nil *set.
type set[T any] struct {
	Items []T `xml:"item"`
}

// some returns a set, nil if it has no items.
func some[T any](items []T) *set[T] {
	if len(items) == 0 {
		return nil
	}
	return &set[T]{items}
}

// convert returns a set of converted items.
func convert[T, U any](in []T, one func(T) U) set[U] {
	out := set[U]{Items: make([]U, len(in))}
	for i, v := range in {
		out.Items[i] = one(v)
	}
	return out
}

// stamp returns a time in EC2's encoding: UTC with milliseconds.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// stampOrNone returns a time in EC2's encoding, "" if it is zero.
func stampOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}
