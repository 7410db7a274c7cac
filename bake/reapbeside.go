package bake

import (
	"context"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// reapingGrace is how long a build that has ended waits for the clean-up after killed
// builds.
const reapingGrace = 90 * time.Second

// reapedSome cleans up after killed builds, and reports whether anything was undone.
func (b *build) reapedSome(ctx context.Context) bool {
	if b.plan.StateDir == "" {
		return false
	}
	all, err := Reap(event.In(ctx, event.OtherBuilds), b.cloud, b.machine, b.report, b.reapingOfPlan())
	if err != nil {
		b.report.Detail("%v", err) // the error of the lookups matters more
	}
	b.warnOfRemains(all)
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

// reapBeside cleans up after killed builds beside this one, until closed has waited for it.
func (b *build) reapBeside(ctx context.Context, host Host) {
	reaping := b.reapingOfPlan()
	paths, err := reaping.journals()
	if err != nil {
		b.report.Warn("%v", err)
		return
	}
	ctx, b.stopReaping = context.WithCancel(event.In(ctx, event.OtherBuilds))
	b.reaps.Store(true)
	b.beside.Go(func() {
		defer b.reaps.Store(false)
		b.warnOfRemains(reaper{b.cloud, b.machine, b.report, reaping, host}.reap(ctx, paths))
	})
}

// warnOfRemains reports the remains of killed builds that stay.
func (b *build) warnOfRemains(all []Remains) {
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

// closed ends the clean-up beside the build, and the journal, and saves the durations of waits.
func (b *build) closed() {
	if b.reaps.Load() {
		b.report.Detail("waiting up to %s for the clean-up after other builds", reapingGrace)
	}
	late := time.AfterFunc(reapingGrace, b.stopReaping)
	b.beside.Wait()
	late.Stop()
	b.stopReaping()
	if b.ledger.Recorded() {
		b.report.Warn("what is left will be tried again by the next build on this host: its journal is %s", b.ledger.Path())
	}
	if err := b.ledger.Close(); err != nil {
		b.report.Warn("cannot end the journal: %v", err)
	}
	if err := b.polling.Save(); err != nil {
		b.report.Detail("%v", err)
	}
}
