package ebsdirect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// Options describe how a Client makes requests.
type Options struct {
	// SDK is a client of the AWS SDK that makes each request once.
	SDK *ebs.Client
	// Policy decides for how long requests are repeated.
	Policy retry.Policy
	// Kind classifies the errors that are common to all APIs of AWS.
	Kind func(error) retry.Kind
	// Cannot returns an error that names a failed action, with advice. If it is nil, there is no
	// advice.
	Cannot func(err error, format string, args ...any) error
	// Attempt is the time limit of a request. The default is one minute: 64 blocks at a time
	// take half of it at 10 Mbit/s.
	Attempt time.Duration
	// Parallel is the number of requests that are under way at the most. The default is 64: with
	// 100 ms for a request, this is less than the 1,000 requests per second that EBS allows for
	// a snapshot.
	Parallel int
}

const (
	defaultAttempt  = time.Minute
	defaultParallel = 64
)

// Client makes requests to the EBS direct APIs of one region. It can be used by many goroutines.
type Client struct {
	Options
	calls    calls
	window   *window
	requests requests
}

// calls are the operations of the API, as functions: see the type of the same name in package
// amazon.
type calls struct {
	StartSnapshot      func(context.Context, *ebs.StartSnapshotInput, ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
	PutSnapshotBlock   func(context.Context, *ebs.PutSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
	CompleteSnapshot   func(context.Context, *ebs.CompleteSnapshotInput, ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
	ListSnapshotBlocks func(context.Context, *ebs.ListSnapshotBlocksInput, ...func(*ebs.Options)) (*ebs.ListSnapshotBlocksOutput, error)
	GetSnapshotBlock   func(context.Context, *ebs.GetSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.GetSnapshotBlockOutput, error)
}

// operations holds the retry rules of each operation.
var operations = retry.Table{
	"StartSnapshot":      {Repeat: retry.HasToken},
	"PutSnapshotBlock":   {Repeat: retry.IsSet},
	"CompleteSnapshot":   {Repeat: retry.IsSet},
	"ListSnapshotBlocks": {Repeat: retry.Reads},
	"GetSnapshotBlock":   {Repeat: retry.Reads},
}

// New returns a Client.
func New(o Options) *Client {
	if o.Attempt <= 0 {
		o.Attempt = defaultAttempt
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	if o.Cannot == nil {
		o.Cannot = func(err error, format string, args ...any) error {
			return fmt.Errorf("cannot %s: %w", fmt.Sprintf(format, args...), err)
		}
	}
	return &Client{Options: o, window: newWindow(o.Parallel), calls: calls{
		StartSnapshot:      o.SDK.StartSnapshot,
		PutSnapshotBlock:   o.SDK.PutSnapshotBlock,
		CompleteSnapshot:   o.SDK.CompleteSnapshot,
		ListSnapshotBlocks: o.SDK.ListSnapshotBlocks,
		GetSnapshotBlock:   o.SDK.GetSnapshotBlock,
	}}
}

// Parallel returns the number of requests that are worth making at the same time.
func (c *Client) Parallel() int { return c.Options.Parallel }

// errAttempt is wrapped by the error of a request that took too long.
var errAttempt = errors.New("no complete response within the time limit of a request")

// do makes a call and repeats it as the policy and the table of operations say. known reports
// whether EBS must know the snapshot by now: otherwise it may be too new.
func (c *Client) do(ctx context.Context, action string, known bool, try func(context.Context) error) error {
	kind := func(err error) retry.Kind { return c.kindOf(action, known, err) }
	call := retry.Call{Service: ebs.ServiceID, Action: action, Kind: kind}
	return operations.For(action, c.Policy).Do(ctx, call, func(ctx context.Context) error {
		round, err := c.window.enter(ctx)
		if err != nil {
			return err
		}
		err = c.attempt(ctx, try)
		c.requests.count(action, err)
		c.window.leave(round, congested(kind(err), err))
		return err
	})
}

// attempt makes a call once. If its time is over, the error wraps errAttempt.
func (c *Client) attempt(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Attempt)
	defer cancel()
	err := try(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", errAttempt, err)
	}
	return err
}

// now returns the time by the clock of the policy.
func (c *Client) now() time.Time {
	if c.Policy.Clock == nil {
		return time.Now()
	}
	return c.Policy.Clock.Now()
}
