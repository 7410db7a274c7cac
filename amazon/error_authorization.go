package amazon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// encodedMark is before the part of a refusal that only STS can read.
const encodedMark = "Encoded authorization failure message: "

// denial is a refusal of EC2 with its decoded part.
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html
type denial struct {
	refusal error
	encoded string

	// ExplicitDeny reports whether a policy denies the call, rather than that none allows it.
	ExplicitDeny bool `json:"explicitDeny"`
	Context      struct {
		Principal struct {
			ARN string `json:"arn"`
		} `json:"principal"`
		Action   string `json:"action"`
		Resource string `json:"resource"`
	} `json:"context"`
}

// Error is the refusal, with the decoded part in place of the encoded one.
func (d *denial) Error() string {
	return strings.Replace(d.refusal.Error(), encodedMark+d.encoded, d.decoded(), 1)
}

// Unwrap returns the refusal.
func (d *denial) Unwrap() error { return d.refusal }

func (d *denial) decoded() string {
	why := "no policy of it allows that"
	if d.ExplicitDeny {
		why = "a policy denies that explicitly"
	}
	return fmt.Sprintf("%s may not %s on %s: %s", d.Context.Principal.ARN, d.Context.Action, d.Context.Resource, why)
}

// decoding makes the calls of a client have their refusals decoded.
func (c *Client) decoding(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("DecodeDenial", func(
		ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
	) (middleware.InitializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleInitialize(ctx, in)
		if hasCode(err, codeUnauthorized) {
			err = c.decode(ctx, err)
		}
		return out, metadata, err
	}), middleware.Before)
}

// decode has STS read the encoded part of a refusal, if there is one. Where STS
// refuses that too, the answer is both refusals.
func (c *Client) decode(ctx context.Context, refusal error) error {
	var api smithy.APIError
	if !errors.As(refusal, &api) {
		return refusal
	}
	_, encoded, found := strings.Cut(api.ErrorMessage(), encodedMark)
	if !found {
		return refusal
	}
	d := &denial{refusal: refusal, encoded: encoded}
	out, err := c.tokenCalls().DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{
		EncodedMessage: aws.String(strings.TrimSpace(encoded)),
	})
	if err == nil {
		err = json.Unmarshal([]byte(aws.ToString(out.DecodedMessage)), d)
	}
	if err != nil {
		return fmt.Errorf("%w; decode_authorization_messages has no effect: %s: %w", refusal, undecoded(err), err)
	}
	return d
}

// undecoded says why there is no decoded message.
// Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_DecodeAuthorizationMessage.html
func undecoded(err error) string {
	var unreadable *json.SyntaxError
	var unsuited *json.UnmarshalTypeError
	switch {
	case hasCode(err, "AccessDenied", "AccessDeniedException"):
		return "it needs the permission sts:DecodeAuthorizationMessage"
	case hasCode(err, "InvalidAuthorizationMessageException", "InvalidAuthorizationMessage"):
		return "the message cannot be decoded, such as one of another account"
	case errors.As(err, &unreadable), errors.As(err, &unsuited):
		return "STS answered what is no decoded message"
	}
	return "STS could not be asked"
}
