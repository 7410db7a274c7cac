package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// Build makes an image. After an error, or when ctx is cancelled, everything
// that was made is undone first; the error says what failed, what was undone, and
// what could not be.
//
// Scaffold that cannot be removed once the image is made does not fail the build:
// the image is whole, for its snapshot was taken of an unmounted and flushed disk,
// and taking it away would cost the user the build and mend nothing. It is told as
// a warning and in Result.Leftovers.
func Build(ctx context.Context, cloud Cloud, machine Machine, plan Plan, report Reporter) (Result, error) {
	guarded, stop := machine.Guard(ctx)
	defer stop()
	b := newBuild(cloud, machine, plan, report)
	defer b.closed()
	result, err := b.inOrder(guarded)
	if err == nil {
		err = b.cleared(ctx)
	}
	if err != nil {
		return Result{}, b.failed(ctx, err)
	}
	b.dropReplaced(ctx, b.keep())
	result.Leftovers = append(b.scaffold.Pending(), b.replaced.Pending()...)
	return result, nil
}

// inOrder is the whole order of a build. Every step arms its own undoing.
func (b *build) inOrder(ctx context.Context) (Result, error) {
	basis, err := b.surveyed(ctx) // host, source image, names and local paths, side by side
	if err != nil {
		return Result{}, err
	}
	basis, err = b.unlock(ctx, basis) // copy a source that cannot be started from
	if err != nil {
		return Result{}, err
	}
	volume, err := b.createVolume(ctx, basis)
	if err != nil {
		return Result{}, err
	}
	attachment, err := b.attach(ctx, basis.Host, volume)
	if err != nil {
		return Result{}, err
	}
	disk, err := b.prepare(ctx, attachment) // find the node, pre_mount_commands
	if err != nil {
		return Result{}, err
	}
	root, err := b.mount(ctx, attachment, disk)
	if err != nil {
		return Result{}, err
	}
	if err := b.furnish(ctx, root); err != nil { // post_mount_commands, chroot_mounts, copy_files
		return Result{}, err
	}
	if err := b.provision(ctx, basis, root); err != nil {
		return Result{}, err
	}
	if err := b.finish(ctx, root); err != nil { // pre_unmount_commands
		return Result{}, err
	}
	if err := b.leave(ctx, root); err != nil { // put back, unmount, flush
		return Result{}, err
	}
	snapshot, err := b.snapshot(ctx, basis, volume)
	if err != nil {
		return Result{}, err
	}
	var away sync.WaitGroup
	defer away.Wait()
	away.Go(func() { b.putAway(ctx, attachment, volume) }) // detach, delete
	image, err := b.register(ctx, basis, snapshot)         // snapshot complete, old image replaced, new one available
	if err != nil {
		return Result{}, err
	}
	products, err := b.publish(ctx, basis, image) // copies and permissions, side by side
	if err != nil {
		return Result{}, err
	}
	return Result{Products: products, Source: basis.Source}, nil
}

// build is what every step works with; what a step finds or makes goes from hand
// to hand.
type build struct {
	cloud   Cloud
	machine Machine
	plan    Plan
	waits   Waits
	report  Reporter

	// scaffold is only there for the build: device name, volume, attachment, mount.
	scaffold *undo.Stack
	// products are what the build is for: snapshot and image, and what they replace.
	products *undo.Stack
	// regions are the products in other regions, or copied in the build's own: each
	// region's are undone by themselves, whatever becomes of the others.
	regions []*undo.Stack
	// replaced are the snapshots of replaced images, which go when all is done.
	replaced *undo.Stack

	// armed are the acts of all stacks in their order, those that are over included.
	armedMu sync.Mutex
	armed   []*armed
	// past are, of another build, all acts of its journal.
	past []act
	// since is when the journal of another build was begun.
	since time.Time
	// account is the account's id, and shown are the resources that the cloud has shown
	// to be the build's: keys of shownKey.
	account string
	shown   sync.Map
	// free are volumes that were seen to be available after they were detached: keys
	// of VolumeID.
	free sync.Map
	// releases give back the device names that this process holds.
	releases map[DeviceName]func() error
	// nameLost says that a name may be reserved that only a keeper knew, which is gone.
	nameLost bool

	// journal has the acts outlive this process; nil has them not.
	journal *undo.Journal
	// reaping ends the undoing of another build's acts; nil in a build of one's own.
	reaping context.Context
	// beside is the cleaning up after other builds, until stopReaping; reaps says that it
	// goes on.
	beside      sync.WaitGroup
	reaps       atomic.Bool
	stopReaping context.CancelFunc
}

func newBuild(cloud Cloud, machine Machine, plan Plan, report Reporter) *build {
	waits := plan.Waits.orDefault()
	return &build{
		cloud: settled(cloud, waits.Settling, report), machine: overhear(machine), plan: plan.orDefault(), waits: waits, report: report,
		scaffold: undo.NewStack("scaffold"), products: undo.NewStack("products"),
		replaced: undo.NewStack("snapshots of replaced images"),
		releases: map[DeviceName]func() error{}, stopReaping: func() {},
	}
}

// done ends a step: with a pause if the user wants one, and with an error if the
// build was cancelled meanwhile, whatever the step itself made of that.
func (b *build) done(ctx context.Context, step string) error {
	if b.plan.Pause != nil {
		if err := b.plan.Pause(ctx, step); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cancelled after the step %q: %w", step, err)
	}
	return nil
}

// stacks are all that is armed, in the order in which it is undone.
func (b *build) stacks() []*undo.Stack {
	return append(slices.Clone(b.regions), b.products, b.scaffold, b.replaced)
}

// keep makes what was made stay: the build has succeeded. It answers the acts by which
// the snapshots of replaced images go; that they are to is settled in the same moment.
func (b *build) keep() []*armed {
	stacks := append(slices.Clone(b.regions), b.products)
	var kept []act
	for _, stack := range stacks {
		kept = append(kept, b.pending(stack)...)
	}
	old := b.armReplaced(kept)
	b.letBe(stacks...)
	return old
}

// failed undoes everything, unless the user wants it left, and tells.
func (b *build) failed(ctx context.Context, cause error) error {
	var left []string
	for _, stack := range b.stacks() {
		left = append(left, stack.Pending()...)
	}
	if len(left) == 0 {
		return cause
	}
	if b.plan.KeepOnError != nil && b.plan.KeepOnError(cause) {
		b.leaveAll(ctx)
		return fmt.Errorf("%w%s", cause, listing("left as it is", left))
	}
	undone, stuck := b.undoAll(ctx)
	cause = fmt.Errorf("%w%s", cause, listing("undone", undone))
	if stuck != nil {
		b.report.Warn("%v", stuck)
		return fmt.Errorf("%w; %w", cause, stuck)
	}
	return cause
}

// leaveAll leaves everything as it is, and tells the user what can be done with it.
func (b *build) leaveAll(ctx context.Context) {
	var acts []act
	for _, stack := range b.stacks() {
		acts = append(acts, b.pending(stack)...)
	}
	b.letBe(b.stacks()...)
	if err := b.machine.Stay(context.WithoutCancel(ctx)); err != nil {
		b.report.Warn("what is mounted may not stay: %v", err)
	}
	for _, advice := range advice(acts) {
		b.report.Warn("%s", advice)
	}
}

// undoAll undoes everything: the regions side by side, then what they were copied
// from. It answers what was undone, and an error that names the rest.
func (b *build) undoAll(ctx context.Context) (undone []string, err error) {
	var mu sync.Mutex
	var stuck []error
	release := func(stack *undo.Stack) {
		err := stack.Release(ctx, b.waits.Release, func(what string) {
			b.report.Detail("undone: %s", what)
			mu.Lock()
			defer mu.Unlock()
			undone = append(undone, what)
		})
		mu.Lock()
		defer mu.Unlock()
		stuck = append(stuck, err)
	}
	var regions sync.WaitGroup
	for _, stack := range b.regions {
		regions.Go(func() { release(stack) })
	}
	regions.Wait()
	release(b.products)
	release(b.scaffold)
	release(b.replaced)
	b.rescue(ctx)
	return undone, errors.Join(stuck...)
}

// cleared removes the rest of the scaffold after a success, and warns of what would not
// go. It fails if the build was cancelled by now, at the last moment at which that can be
// heeded: whoever cancels does not want the image, and Packer forgets it.
func (b *build) cleared(ctx context.Context) error {
	if err := b.scaffold.Release(ctx, b.waits.Release, nil); err != nil {
		b.report.Warn("the image is made, but %v", err)
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cancelled when the image was made: %w", err)
	}
	return nil
}

// listing is a clause that lists things; empty if there are none.
func listing(title string, things []string) string {
	if len(things) == 0 {
		return ""
	}
	return "; " + title + ": " + strings.Join(things, ", ")
}
