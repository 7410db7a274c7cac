package bake

import (
	"context"
	"fmt"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// armUnmark arms the removal of the build's tag from the snapshot of a direct build that has
// succeeded. It returns false if there is no such snapshot.
func (b *build) armUnmark() (armed[buildTagAct], bool) {
	id := b.disk.marked()
	if id == "" {
		return armed[buildTagAct]{}, false
	}
	it, err := arm(b.undoer, replacedSnapshots, buildTagAct{call: call{Answered: true}, Snapshot: id})
	if err != nil {
		b.report.Warn("the image is made, but the tag %s stays on %s: %v", BuildTag, id, err)
	}
	return it, err == nil
}

// unmark removes the tag, unless old snapshots could not be deleted: reap will delete them, and the tag
// shows then that the image which has replaced them is the build's.
func (b *build) unmark(ctx context.Context, it armed[buildTagAct]) {
	if b.isEvidence(it.entry) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.waits.Release)
	defer cancel()
	_ = it.Undo(ctx) // it reports a failure
}

// isEvidence reports whether the tag of an act is needed to delete old snapshots.
func (u *undoer) isEvidence(tag *entry) bool {
	return slices.ContainsFunc(u.ledger.Outstanding(replacedSnapshots), func(e *entry) bool { return e != tag })
}

// buildTagAct is the tag of the build on the snapshot of an image, which is removed in any case:
// undoing removes it.
type buildTagAct struct {
	call
	Snapshot SnapshotID `json:"snapshot,omitempty"`
}

func (buildTagAct) kind() string { return "build tag" }

// String implements act.
func (a buildTagAct) String() string { return fmt.Sprintf("tag of the build on %s", a.Snapshot) }

func (a buildTagAct) check(BuildID) error { return named(a.Snapshot != "") }

// removal returns nothing, because the tag only stays if its removal failed.
func (buildTagAct) removal([]act) string { return "" }

// undo removes the tag. A failure is only reported: a tag on a good snapshot is harmless.
func (a buildTagAct) undo(ctx context.Context, u *undoer, _ *entry) error {
	store := blockStore(u.cloud)
	if store == nil {
		return undo.ErrNothing
	}
	if err := store.Unmark(ctx, a.Snapshot); err != nil {
		u.report.Warn("the tag %s stays on %s: %v", BuildTag, a.Snapshot, err)
		return undo.ErrNothing
	}
	return nil
}

// undoInherited removes the tag if it is that of the build.
func (a buildTagAct) undoInherited(ctx context.Context, u *undoer, e *entry) error {
	if u.isEvidence(e) {
		return fmt.Errorf("the %s is needed to delete old snapshots", a)
	}
	s, err := u.cloud.Snapshot(ctx, a.Snapshot)
	if err != nil {
		return ignoreGone(err)
	}
	if s.Build != u.build {
		return undo.ErrNothing
	}
	return a.undo(ctx, u, e)
}
