package oapi

import "github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"

// call is one authorized request.
type call struct {
	st     *state.Cloud
	caller state.Caller
	host   string // the Host header
}

// action is a call of the API.
type action struct {
	// request returns a struct for its parameters.
	request func() any
	run     func(c *call, request any) (response, error)
}

// changing returns the action of a call that changes resources. The call passes DryRun on to
// the state.
func changing[In any, Out response](run func(*call, *In) (Out, error)) action {
	return action{
		request: func() any { return new(In) },
		run:     func(c *call, request any) (response, error) { return run(c, request.(*In)) },
	}
}

// reading returns the action of a call that only reads. With DryRun the call runs, and its
// response is discarded.
func reading[In interface{ isDryRun() bool }, Out response](run func(*call, *In) (Out, error)) action {
	return changing(func(c *call, in *In) (Out, error) {
		out, err := run(c, in)
		if err == nil && (*in).isDryRun() {
			err = errDryRun
		}
		return out, err
	})
}

// baseRequest holds the parameters of every call.
type baseRequest struct {
	DryRun bool `json:"DryRun"`
}

func (r baseRequest) isDryRun() bool { return r.DryRun }
