package oapi

import "github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"

// call is one authorized request.
type call struct {
	st     *state.Cloud
	caller state.Caller
	host   string // the Host header
}

// actions are the implemented calls of the API, by name.
var actions = map[string]action{
	"ReadAccounts":   reading((*call).readAccounts),
	"ReadRegions":    reading((*call).readRegions),
	"ReadSubregions": reading((*call).readSubregions),

	"ReadVms": reading((*call).readVMs),

	"CreateVolume": changing((*call).createVolume),
	"ReadVolumes":  reading((*call).readVolumes),
	"UpdateVolume": changing((*call).updateVolume),
	"LinkVolume":   changing((*call).linkVolume),
	"UnlinkVolume": changing((*call).unlinkVolume),
	"DeleteVolume": changing((*call).deleteVolume),

	"CreateSnapshot": changing((*call).createSnapshot),
	"ReadSnapshots":  reading((*call).readSnapshots),
	"UpdateSnapshot": changing((*call).updateSnapshot),
	"DeleteSnapshot": changing((*call).deleteSnapshot),

	"CreateImage": changing((*call).createImage),
	"ReadImages":  reading((*call).readImages),
	"UpdateImage": changing((*call).updateImage),
	"DeleteImage": changing((*call).deleteImage),

	"CreateTags": changing((*call).createTags),
	"ReadTags":   reading((*call).readTags),
	"DeleteTags": changing((*call).deleteTags),
}

// action decodes the parameters in a body, runs a call with them and returns its response.
type action func(c *call, body []byte) (response, error)

// changing returns the action of a call that changes resources. The call passes DryRun on to
// the state.
func changing[In any, Out response](run func(*call, *In) (Out, error)) action {
	return func(c *call, body []byte) (response, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		return run(c, in)
	}
}

// reading returns the action of a call that only reads. With DryRun the call runs, and its
// response is discarded.
func reading[In interface{ isDryRun() bool }, Out response](run func(*call, *In) (Out, error)) action {
	return func(c *call, body []byte) (response, error) {
		in := new(In)
		if err := decode(body, in); err != nil {
			return nil, err
		}
		out, err := run(c, in)
		if err == nil && (*in).isDryRun() {
			err = errDryRun
		}
		return out, err
	}
}

// baseRequest holds the parameters of every call.
type baseRequest struct {
	DryRun bool `json:"DryRun"`
}

func (r baseRequest) isDryRun() bool { return r.DryRun }
