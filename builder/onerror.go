package builder

import (
	"context"
	"log"
	"strings"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
)

// The values of packer build -on-error.
const (
	onErrorAbort      = "abort"
	onErrorAsk        = "ask"
	onErrorRunCleanup = "run-cleanup-provisioner"
)

// verdict is the decision after a failure.
type verdict int

const (
	undecided verdict = iota
	// cleanUp undoes the build.
	cleanUp
	// keep leaves everything as it is.
	keep
	// retry does the failed step again.
	retry
)

// onError decides once how to go on after a failure.
type onError struct {
	policy  string
	ui      packersdk.Ui
	report  *reporter
	decided verdict
}

// decide asks the user if that is the policy. It does not ask after a cancel: the user has
// decided.
func (o *onError) decide(ctx context.Context, step string, failure error, mayRetry bool) verdict {
	if o.decided != undecided {
		return o.decided
	}
	v := cleanUp
	switch o.policy {
	case onErrorAbort, onErrorRunCleanup:
		v = keep
	case onErrorAsk:
		v = o.ask(ctx, step, failure, mayRetry)
	}
	if v == retry {
		return retry
	}
	o.decided = v
	return v
}

// keeps decides, and prints a message if all resources are kept.
func (o *onError) keeps(ctx context.Context, failure error) bool {
	if o.decide(ctx, "The build", failure, false) != keep {
		return false
	}
	o.report.Warn("Nothing is cleaned up (-on-error=%s): what the build made stays as it is.", o.policy)
	return true
}

func (o *onError) ask(ctx context.Context, step string, failure error, mayRetry bool) verdict {
	o.report.Warn("%s failed: %v", step, failure)
	question := "[c] Clean up and exit, [a] abort without cleanup"
	if mayRetry {
		question += ", or [r] retry"
	}
	for {
		answer, err := ask(ctx, o.ui, question+"?")
		if err != nil {
			return cleanUp
		}
		switch strings.ToLower(answer) {
		case "", "c":
			return cleanUp
		case "a":
			return keep
		case "r":
			if mayRetry {
				return retry
			}
		}
		o.report.Step("Not an answer: %q", answer)
	}
}

// interruptGap is how long an interrupt at the terminal may take to reach the
// build: the question that it breaks off is answered with an error at once.
const interruptGap = time.Second

// ask asks the user, until ctx ends. A user who cannot be asked is logged.
func ask(ctx context.Context, ui packersdk.Ui, question string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	type result struct {
		answer string
		err    error
	}
	results := make(chan result, 1)
	go func() {
		answer, err := ui.Ask(question)
		results <- result{strings.TrimSpace(answer), err}
	}()
	select {
	case r := <-results:
		if r.err == nil {
			return r.answer, nil
		}
		log.Printf("cannot ask %q: %v", question, r.err)
		return "", cancelled(ctx, r.err)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// cancelled is the error of ctx, if that ends about now, or else err.
func cancelled(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(interruptGap):
		return err
	}
}
