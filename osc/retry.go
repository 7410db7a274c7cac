package osc

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// service is the API's name in messages.
const service = "OAPI"

// tryLimit bounds one attempt: the SDK has no time-out of its own.
const tryLimit = 2 * time.Minute

// do makes a call until it succeeds or is refused for good, by the policy that both
// clouds share. All calls can be made again: those that create carry a client token, or
// look first. Each attempt is signed anew. The error says what the user can do about it.
func (c *Client) do(ctx context.Context, action string, try func(context.Context) error) error {
	err := c.retry.Do(ctx, retry.Call{Service: service, Action: action, Kind: c.kindOf}, func(ctx context.Context) error {
		return c.once(ctx, try)
	})
	return c.advise(action, err)
}

// once makes one attempt, and notes if the API has answered.
func (c *Client) once(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, builder.AnswerLimit(tryLimit, c.access.Patience))
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
		dial  *net.OpError
	)
	switch {
	case errors.As(err, &no):
		return no.kind()
	case !errors.As(err, &fault), fault.wrongTLS(), fault.wrongHost() && !c.reached.Load():
		return retry.Permanent
	case errors.As(err, &dial) && dial.Op == "dial":
		return retry.Unreached
	}
	return retry.Lost
}
