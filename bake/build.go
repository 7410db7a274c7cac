package bake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// Build makes an image. After an error, or if ctx is cancelled, everything that was created
// is undone first; the error describes the failure, lists the acts that were undone, and
// those that could not be.
//
// Scaffold that cannot be removed after the image was made does not fail the build: the
// image is complete, because its snapshot was taken of an unmounted and flushed disk, and
// deleting it would cost the user the build and repair nothing. It is reported as a warning
// and in Result.Leftovers.
func Build(ctx context.Context, cloud Cloud, machine Machine, plan Plan, report Reporter) (Result, error) {
	guarded, stop := machine.Guard(ctx)
	defer stop()
	guarded, cancel := context.WithCancelCause(guarded)
	defer cancel(nil)
	b := newBuild(cloud, machine, plan, report)
	b.cancel = cancel
	defer b.closed() // before cancel: the clean-up after other builds goes on
	defer b.emitRequests(ctx)
	defer b.reportOutcome(ctx)
	var result Result
	err := b.inOrder(guarded, b.steps(&result))
	if err == nil {
		err = b.cleared(ctx)
	}
	if err != nil {
		return Result{}, b.failed(ctx, b.explained(err))
	}
	tag, marked := b.armUnmark()
	b.deleteOldSnapshots(ctx, b.keep())
	if marked {
		b.unmark(ctx, tag)
	}
	result.Leftovers = b.ledger.Names(scaffold, replacedSnapshots)
	return result, nil
}

// build is the state that all steps share. The results of a step are passed on by steps.
type build struct {
	*undoer
	plan Plan
	// store is the cloud's, in a direct build.
	store BlockStore
	// cancel ends the steps with a cause.
	cancel context.CancelCauseFunc
	// disk is the disk of the new image; nil until it is created.
	disk rootDisk
	// kept are the acts that are never undone because the build has succeeded, and left those
	// that the user wants left after a failure.
	kept, left []*entry

	// beside is the clean-up after other builds, until stopReaping; reaps is set while it is
	// under way.
	beside      sync.WaitGroup
	reaps       atomic.Bool
	stopReaping context.CancelFunc
}

func newBuild(cloud Cloud, machine Machine, plan Plan, report Reporter) *build {
	waits, plan := plan.Waits.orDefault(), plan.orDefault()
	u := &undoer{
		cloud: settled(cloud, waits.Settling, report), machine: withEvents(machine), waits: waits, report: report,
		build: plan.Build, lockDir: plan.LockDir, polling: polling.NewStore(plan.StateDir, plan.Program+" "+plan.Endpoint),
	}
	u.ledger = undo.New(func(ctx context.Context, e *entry) error { return e.Act().undo(ctx, u, e) })
	b := &build{undoer: u, plan: plan, stopReaping: func() {}}
	if plan.Direct {
		b.store = blockStore(u.cloud)
	}
	return b
}

// explained returns an error with the failure of the root's disk, if that has failed.
func (b *build) explained(err error) error {
	if b.disk == nil {
		return err
	}
	return b.disk.explain(err)
}

// keep settles that the created resources stay: the build has succeeded. It returns the acts
// by which the snapshots of replaced images are deleted, which is settled at the same
// moment.
func (b *build) keep() []armed[oldSnapshotAct] {
	kept := append(slices.Clone(b.regions), products)
	b.kept = b.ledger.Outstanding(kept...)
	old := b.armOldSnapshots(b.kept)
	b.leaveOut(kept...)
	return old
}

// leaveOut settles that the acts of some groups are never undone, neither by this process
// nor by another.
func (b *build) leaveOut(groups ...undo.Group) {
	if err := b.ledger.Keep(groups...); err != nil {
		b.report.Warn("%v", err)
	}
}

// failed undoes everything, unless the user wants it left, and adds that to the error.
func (b *build) failed(ctx context.Context, cause error) error {
	left := b.ledger.Names(b.groups()...)
	if len(left) == 0 {
		return cause
	}
	if b.plan.KeepOnError != nil && b.plan.KeepOnError(cause) && b.canStay() {
		b.leaveAll(ctx)
		return fmt.Errorf("%w%s", cause, listing("left as it is", left))
	}
	begun := time.Now()
	undone, stuck := b.undoAll(event.In(context.WithoutCancel(ctx), "undo"))
	event.Emit(ctx, event.Step{Name: "undo", Took: time.Since(begun), Err: stuck})
	cause = fmt.Errorf("%w%s", cause, listing("undone", undone))
	if stuck != nil {
		b.report.Warn("%v", stuck)
		return fmt.Errorf("%w; %w", cause, stuck)
	}
	return cause
}

// canStay reports whether resources can outlive this process. A direct disk cannot: this process
// fetches its blocks.
func (b *build) canStay() bool {
	if b.plan.Direct {
		b.report.Warn("everything is undone all the same: the blocks of a direct build's disk come from this process, so nothing can stay mounted after it")
	}
	return !b.plan.Direct
}

// leaveAll keeps all resources and prints instructions for inspecting and removing them.
func (b *build) leaveAll(ctx context.Context) {
	var acts []act
	b.left = b.ledger.Outstanding(b.groups()...)
	for _, e := range b.left {
		acts = append(acts, e.Act().act)
	}
	b.leaveOut(b.groups()...)
	if err := b.machine.Stay(context.WithoutCancel(ctx)); err != nil {
		b.report.Warn("what is mounted may not stay: %v", err)
	}
	for _, line := range advice(acts) {
		b.report.Warn("%s", line)
	}
}

// advice returns instructions for inspecting the resources of acts, and for removing them in
// the order of the acts. It omits requests without a response, because their resources may
// not exist.
func advice(acts []act) []string {
	var advice, removals []string
	for _, a := range acts {
		if !a.isAnswered() {
			continue
		}
		if seen, ok := a.(interface{ inspection() string }); ok {
			advice = append(advice, seen.inspection())
		}
		if removal := a.removal(acts); removal != "" {
			removals = append(removals, removal)
		}
	}
	if len(removals) > 0 {
		advice = append(advice, "To remove what is left, in this order: "+strings.Join(removals, "; "))
	}
	return advice
}

// cleared removes the rest of the scaffold after a success, and warns of resources that
// cannot be removed. It returns an error if the build was cancelled by now, which is the
// last moment to heed that: a user who cancels does not want the image, and Packer forgets
// it.
func (b *build) cleared(ctx context.Context) error {
	if err := b.ledger.Release(context.WithoutCancel(ctx), scaffold, b.waits.Release, nil); err != nil {
		b.report.Warn("the image is made, but %v", err)
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cancelled when the image was made: %w", err)
	}
	return nil
}

// listing returns a clause that lists names; empty if there are none.
func listing(title string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; " + title + ": " + strings.Join(names, ", ")
}
