package amazon

import (
	"context"
	"errors"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// attempts are those that the SDK itself makes of one call.
type attempts struct {
	n int
	// last is when the one before ended.
	last time.Time
}

type attemptsKey struct{}

// telling makes every attempt of a call an event.
func telling(stack *middleware.Stack) error {
	begin := middleware.InitializeMiddlewareFunc("CountAttempts", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		return next.HandleInitialize(context.WithValue(ctx, attemptsKey{}, new(attempts)), in)
	})
	if err := stack.Initialize.Add(begin, middleware.Before); err != nil {
		return err
	}
	each := middleware.FinalizeMiddlewareFunc("TellAttempt", tellAttempt)
	if err := stack.Finalize.Insert(each, "Retry", middleware.After); err != nil {
		return stack.Finalize.Add(each, middleware.After) // a call that is not tried again
	}
	return nil
}

func tellAttempt(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (
	middleware.FinalizeOutput, middleware.Metadata, error,
) {
	of, ok := ctx.Value(attemptsKey{}).(*attempts)
	if !ok || !event.Heard(ctx) {
		return next.HandleFinalize(ctx, in)
	}
	begun := time.Now()
	out, metadata, err := next.HandleFinalize(ctx, in)
	of.n++
	before, pause := retry.AttemptOf(ctx, awsmiddleware.GetOperationName(ctx))
	call := event.Call{
		Service: awsmiddleware.GetServiceID(ctx), Action: awsmiddleware.GetOperationName(ctx), RequestID: requestID(metadata, err),
		Attempt: before - 1 + of.n, Pause: pause, Took: time.Since(begun), Err: err,
	}
	if r, ok := in.Request.(*smithyhttp.Request); ok && call.Action == "" {
		call.Service, call.Action = "metadata", r.URL.Path // it has no named operations
	}
	if of.n > 1 {
		call.Pause = begun.Sub(of.last)
	}
	of.last = time.Now()
	if err != nil || !ebsdirect.TransfersBlock(call.Action) { // those are counted
		event.Emit(ctx, call)
	}
	return out, metadata, err
}

// requestID is AWS's id of a request, empty if there was no answer.
func requestID(metadata middleware.Metadata, err error) string {
	if id, ok := awsmiddleware.GetRequestIDMetadata(metadata); ok {
		return id
	}
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.ServiceRequestID()
	}
	return ""
}
