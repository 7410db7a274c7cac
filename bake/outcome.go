package bake

import (
	"context"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// passingKinds are the kinds of acts that leave no resource in the cloud when they are undone. They are
// only reported if they are not.
var passingKinds = []string{
	reservationAct{}.kind(), attachmentAct{}.kind(), mountAct{}.kind(), diskAct{}.kind(), directMountAct{}.kind(),
}

// reportOutcome emits an event for each resource of the build.
func (b *build) reportOutcome(ctx context.Context) {
	for _, e := range b.ledger.Entries() {
		a := e.Act()
		fate := b.fate(e)
		if fate == "" || fate == event.Removed && slices.Contains(passingKinds, a.kind()) {
			continue
		}
		r := event.Resource{Kind: a.kind(), Name: a.String(), Fate: fate}
		if begun, ok := a.act.(interface{ since() call }); ok {
			r.Since = begun.since().Begun
		}
		event.Emit(ctx, r)
	}
}

// fate returns the fate of an act's resource; empty if there never was one.
func (b *build) fate(e *entry) event.Fate {
	a := e.Act()
	fate := event.Removed
	switch {
	case slices.Contains(b.kept, e):
		fate = event.Kept
	case e.Outstanding() || slices.Contains(b.left, e):
		fate = event.Left
	case !a.isAnswered():
		return ""
	}
	if own, ok := a.act.(interface{ fate(event.Fate) event.Fate }); ok {
		return own.fate(fate)
	}
	return fate
}
