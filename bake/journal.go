package bake

import (
	"context"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// reapingGrace is how long a build that has ended waits for the cleaning up after
// killed ones.
const reapingGrace = 90 * time.Second

// surveyed is survey, with the journal begun. What a killed build has left can be in
// the way, such as an image of the same name, or something mounted on the same path:
// then it is cleaned up, and the survey done again. Otherwise that is done beside the
// build.
func (b *build) surveyed(ctx context.Context) (basis, error) {
	from, err := b.survey(ctx)
	if err != nil && ctx.Err() == nil && b.reapedSome(ctx) {
		from, err = b.survey(ctx)
	}
	b.account = from.Host.Account
	if err != nil || b.plan.StateDir == "" {
		return from, err
	}
	b.reapBeside(ctx, from.Host)
	b.journal, err = undo.Create(b.plan.StateDir, b.header(from.Host))
	return from, err
}

func (b *build) header(host Host) undo.Header {
	return undo.Header{
		Build: string(b.plan.Build), Program: b.plan.Program,
		Account: host.Account, Region: host.Region, Endpoint: b.plan.Endpoint, Cloud: host.Cloud, Host: string(host.ID),
		Start: time.Now().UTC(),
	}
}

// reapedSome cleans up after killed builds, and says whether anything was undone.
func (b *build) reapedSome(ctx context.Context) bool {
	if b.plan.StateDir == "" {
		return false
	}
	all, err := Reap(ctx, b.cloud, b.machine, b.report, b.reapingOfPlan())
	if err != nil {
		b.report.Detail("%v", err) // the survey has failed, and its error is what matters
	}
	b.tell(all)
	some := false
	for _, r := range all {
		some = some || len(r.Undone) > 0
	}
	return some
}

func (b *build) reapingOfPlan() Reaping {
	return Reaping{
		StateDir: b.plan.StateDir, LockDir: b.plan.LockDir,
		Program: b.plan.Program, Endpoint: b.plan.Endpoint, Waits: b.plan.Waits,
	}
}

// reapBeside cleans up after killed builds beside this one, until closing ends.
func (b *build) reapBeside(ctx context.Context, host Host) {
	paths, err := undo.Journals(b.plan.StateDir)
	if err != nil {
		b.report.Warn("%v", cannotReap(b.plan.StateDir, err))
		return
	}
	ctx, b.stopReaping = context.WithCancel(ctx)
	b.reaps.Store(true)
	b.beside.Go(func() {
		defer b.reaps.Store(false)
		b.tell(reaper{b.cloud, b.machine, b.report, b.reapingOfPlan(), host}.reap(ctx, paths))
	})
}

// tell warns of what stays of killed builds.
func (b *build) tell(all []Remains) {
	for _, r := range all {
		switch r.Fate {
		case Stuck:
			b.report.Warn("something is left of build %s, and will be tried again: %s", r.Build, r.Problem)
		case Unreadable:
			b.report.Warn("something may be left of a build: %s", r.Problem)
		case Elsewhere:
			b.report.Detail("the journal of build %s stays: %s", r.Build, r.Problem)
		case Removed, Due, Living, Forgotten:
		}
	}
}

// closed ends the journal, and what is done beside the build.
func (b *build) closed() {
	if b.reaps.Load() {
		b.report.Detail("waiting up to %s for the clean-up after other builds", reapingGrace)
	}
	late := time.AfterFunc(reapingGrace, b.stopReaping)
	b.beside.Wait()
	late.Stop()
	b.stopReaping()
	if left := b.journal.Pending(); len(left) > 0 {
		b.report.Warn("what is left will be tried again by the next build on this host: its journal is %s", b.journal.Path())
	}
	if err := b.journal.Close(); err != nil {
		b.report.Warn("cannot end the journal: %v", err)
	}
}

// letBe has the acts of stacks never be undone, neither by this process nor by
// another.
func (b *build) letBe(stacks ...*undo.Stack) {
	names := make([]string, len(stacks))
	for i, stack := range stacks {
		names[i] = stack.Name()
	}
	if err := b.journal.Keep(names...); err != nil {
		b.report.Warn("%v", err)
	}
	for _, stack := range stacks {
		stack.Keep()
	}
}

// bounded ends with ctx, and with the reaping if this is one: unlike a build's own
// undoing it can be left to the next.
func (b *build) bounded(ctx context.Context) (bounded context.Context, stop func()) {
	if b.reaping == nil {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(b.reaping, func() { cancel(context.Cause(b.reaping)) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}
