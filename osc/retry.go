package osc

import (
	"context"
	"errors"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// service is the API's name in messages.
const service = "OAPI"

// operations holds the retry rules of each call of the API that a build makes. An error for which
// Passes is true wraps bake.ErrUnsettled, so the build repeats the call (bake/settle.go); unsettled.go
// marks the refusals that need a look at the resource too. The metadata service has rules of its own
// (metadata.go).
var operations = retry.Table{
	string(createImage):    {Repeat: retry.CreatesAnother}, // it takes no client token
	string(createSnapshot): {Repeat: retry.HasToken, Passes: isUnsettled},
	string(createTags):     {Repeat: retry.IsSet},
	string(createVolume):   {Repeat: retry.HasToken},
	string(deleteImage):    {Repeat: retry.IsSet},
	string(deleteSnapshot): {Repeat: retry.IsSet},
	string(deleteVolume):   {Repeat: retry.IsSet},
	string(linkVolume):     {Repeat: retry.IsSet},
	string(readAccounts):   {Repeat: retry.Reads},
	string(readImages):     {Repeat: retry.Reads},
	string(readRegions):    {Repeat: retry.Reads},
	string(readSnapshots):  {Repeat: retry.Reads},
	string(readVMs):        {Repeat: retry.Reads},
	string(readVolumes):    {Repeat: retry.Reads},
	string(unlinkVolume):   {Repeat: retry.IsSet},
	string(updateImage):    {Repeat: retry.IsSet},
	string(updateSnapshot): {Repeat: retry.IsSet},
}

// isUnsettled reports whether an error is a refusal because a changing call lags behind the reading
// calls.
func isUnsettled(err error) bool { return isRefusal(err, (*refusal).unsettled) }

// do makes a call by the client's policy and the table. Each attempt is signed anew. The error has
// advice for the user.
func (c *Client) do(ctx context.Context, action string, try func(context.Context) error) error {
	err := operations.For(action, c.retry).Do(ctx, retry.Call{Service: service, Action: action, Kind: c.kindOf}, func(ctx context.Context) error {
		return c.once(ctx, try)
	})
	if operations.Passes(action, err) {
		err = bake.Unsettled(err)
	}
	return c.advise(action, err)
}

// once makes one attempt, and notes if the API has answered. The SDK has no time limit of its own.
func (c *Client) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, builder.ResponseLimit(builder.ResponseTimeout, c.access.WaitLimit))
	defer cancel()
	err := try(ctx)
	var no *refusal
	if err == nil || errors.As(err, &no) {
		c.reached.Store(true)
	}
	return err
}

// kindOf classifies an error of an attempt. A host that was found before may be missed by
// chance.
func (c *Client) kindOf(err error) retry.Kind {
	var (
		no    *refusal
		fault *transportError
	)
	switch {
	case errors.As(err, &no):
		return no.kind()
	case !errors.As(err, &fault), fault.wrongTLS(), fault.wrongHost() && !c.reached.Load():
		return retry.Permanent
	case builder.Unreached(err):
		return retry.Unreached
	}
	return retry.Lost
}
