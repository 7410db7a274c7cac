package bake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// An act is something that a build does and can undo. It is a value that can be
// written down: another process undoes it from that alone.
//
// What an act makes is named when its call has been answered; until then it is
// found by what it was to be made of.
type act struct {
	Kind actKind `json:"kind"`
	// Answered says that the call has been answered: what it asked for is, or was,
	// there. Otherwise it may be there all the same.
	Answered bool `json:"answered,omitempty"`
	// Asked is when a process that is dead has asked for it.
	Asked time.Time `json:"-"`
	// Over says that the journal records the act as finished: its resource is gone.
	Over bool `json:"-"`

	Build    BuildID    `json:"build,omitempty"`
	Volume   VolumeID   `json:"volume,omitempty"`
	Snapshot SnapshotID `json:"snapshot,omitempty"`
	Image    ImageID    `json:"image,omitempty"`
	// Region is where copies and replaced images are, and what belongs to them;
	// everything else is in the build's own.
	Region string `json:"region,omitempty"`
	// Source and Name are what a copy was made of, and its name; Snapshots were made
	// for it.
	Source    ImageID      `json:"source,omitempty"`
	Name      string       `json:"name,omitempty"`
	Snapshots []SnapshotID `json:"snapshots,omitempty"`
	// Guarded says that the image may be protected from being deregistered, by the
	// build itself.
	Guarded bool `json:"guarded,omitempty"`
	// Record is what a replaced Image can be restored from.
	Record *Record `json:"record,omitempty"`
	// Begun is when the act was begun: nothing that is older was made by it.
	Begun time.Time `json:"begun,omitzero"`
	// SizeGiB, Zone and From, the snapshot, are what a volume was asked for with.
	SizeGiB int64      `json:"size_gib,omitempty"`
	Zone    string     `json:"zone,omitempty"`
	From    SnapshotID `json:"from,omitempty"`
	// Described says that a snapshot was asked for with Description.
	Described   bool   `json:"described,omitempty"`
	Description string `json:"description,omitempty"`
	// Before are the disks that were there before the volume was attached.
	Before disk.Seen `json:"before,omitempty"`
	// Host and Device are where the volume is attached.
	Host   HostID     `json:"host,omitempty"`
	Device DeviceName `json:"device,omitempty"`
	// Reserved are the device names that are kept from other builds, in LockDir.
	Reserved []DeviceName `json:"reserved,omitempty"`
	LockDir  string       `json:"lock_dir,omitempty"`
	// Node is mounted on Path; Root says more of that, for other processes.
	Node string             `json:"node,omitempty"`
	Path string             `json:"path,omitempty"`
	Root *chroot.RootRecord `json:"root,omitempty"`
}

// actKind says which act it is.
type actKind string

const (
	actVolume      actKind = "volume"
	actReservation actKind = "reservation"
	actAttachment  actKind = "attachment"
	actMount       actKind = "mount"
	actSnapshot    actKind = "snapshot"
	actImage       actKind = "image"
	// A copy is an image with snapshots of its own.
	actCopy actKind = "copy"
	// The snapshot of a copied source's further device is the image's, if that uses it;
	// otherwise it goes with the copy.
	actFurther actKind = "further snapshot"
	// An image that is replaced is deregistered, and restored when that is undone.
	actReplaced actKind = "replaced"
	// The snapshot of an image that was replaced is deleted in any case.
	actOldSnapshot actKind = "old snapshot"
)

// String says what the act has made, as errors and advice name it.
func (a act) String() string {
	switch a.Kind {
	case actVolume:
		return named("volume", a.Volume, "build "+string(a.Build))
	case actReservation:
		return a.reservation()
	case actAttachment:
		return fmt.Sprintf("attachment of %s to %s", a.Volume, a.Host)
	case actMount:
		return fmt.Sprintf("mount of %s on %s", a.Node, a.Path)
	case actSnapshot:
		return named("snapshot", a.Snapshot, string(a.Volume))
	case actImage:
		return named("image", a.Image, string(a.Snapshot))
	case actCopy:
		return named("copy", a.Image, string(a.Source)) + a.with() + " in " + a.Region
	case actFurther:
		return fmt.Sprintf("snapshot %s of the copy %s in %s", a.Snapshot, a.Image, a.Region)
	case actReplaced:
		return fmt.Sprintf("deregistration of image %s in %s", a.Image, a.Region)
	case actOldSnapshot:
		return fmt.Sprintf("snapshot %s of the replaced image %s in %s", a.Snapshot, a.Image, a.Region)
	}
	return fmt.Sprintf("act of the unknown kind %q", a.Kind)
}

// named names a thing by its id or, where that is not known, by what it is made of.
func named[ID ~string](what string, id ID, of string) string {
	if id == "" {
		return what + " of " + of
	}
	return what + " " + string(id)
}

// with names the snapshots that were made for a copy, which may outlive it.
func (a act) with() string {
	if len(a.Snapshots) == 0 {
		return ""
	}
	return " (" + listed(a.Snapshots) + ")"
}

func (a act) reservation() string {
	if len(a.Reserved) == 0 {
		return "reservation of a device name"
	}
	names := make([]string, len(a.Reserved))
	for i, name := range a.Reserved {
		names[i] = string(name)
	}
	return "reservation of " + strings.Join(names, " and ")
}

// undo undoes an act from its value alone; undone or never done, it answers nil. An
// act may be undone again after a failure. What is found out on the way, and could not
// be when half is undone, is told to learn.
func (b *build) undo(ctx context.Context, a act, learn func(func(*act))) error {
	if b.reaping != nil {
		if done, err := b.undoAsHeir(ctx, a); done || err != nil {
			return err
		}
	}
	switch a.Kind {
	case actVolume:
		return b.deleteVolumes(ctx, a)
	case actReservation:
		return b.releaseNames(a)
	case actAttachment:
		return b.detach(ctx, a)
	case actMount:
		return b.unmount(ctx, a)
	case actSnapshot:
		return b.deleteSnapshots(ctx, a)
	case actImage:
		return b.deregisterImages(ctx, a)
	case actCopy:
		return b.removeCopies(ctx, a, learn)
	case actFurther:
		return b.deleteFurther(ctx, a)
	case actReplaced:
		return b.restore(ctx, a)
	case actOldSnapshot:
		return b.deleteOld(ctx, a)
	}
	return fmt.Errorf("cannot undo the %s", a)
}

// armed is an act whose undoing is armed.
type armed struct {
	stack *undo.Stack
	entry *undo.Entry
	// note is the act in the journal.
	note *undo.Note

	mu  sync.Mutex
	act act
}

// arm arms the undoing of an act and writes that down; only then may it be begun.
// From here on the act must be undone, whatever becomes of this process.
func (b *build) arm(stack *undo.Stack, a act) (*armed, error) {
	note, err := b.journal.Arm(stack.Name(), a)
	if err != nil {
		return nil, fmt.Errorf("cannot begin the %s: %w", a, err)
	}
	return b.hold(stack, a, note), nil
}

// hold arms the undoing of an act that is written down.
func (b *build) hold(stack *undo.Stack, a act, note *undo.Note) *armed {
	it := &armed{stack: stack, act: a, note: note}
	it.entry = stack.Arm(a.String(), func(ctx context.Context) error {
		ctx, stop := b.bounded(ctx)
		defer stop()
		err := b.undo(ctx, it.value(), it.known)
		if err == nil || errors.Is(err, undo.ErrNothing) {
			it.over()
		}
		return err
	})
	b.armedMu.Lock()
	defer b.armedMu.Unlock()
	b.armed = append(b.armed, it)
	return it
}

// over says in the journal that nothing is left to undo. If that cannot be written,
// somebody will find so.
func (it *armed) over() { _ = it.note.Over() }

// known completes the act with what is known of it by now. If that cannot be written
// to the journal, it will be found out otherwise.
func (it *armed) known(complete func(*act)) {
	it.mu.Lock()
	defer it.mu.Unlock()
	complete(&it.act)
	it.entry.Rename(it.act.String())
	_ = it.note.Known(it.act)
}

// extend makes the act more than it was; only then may what is added be begun. Unlike
// what is known of an act, it is found by nothing but the journal.
func (it *armed) extend(more func(*act)) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	a := it.act
	more(&a)
	if err := it.note.Extend(a); err != nil {
		return err
	}
	it.act = a
	return nil
}

// answered completes the act when its call has been answered.
func (it *armed) answered(complete func(*act)) {
	it.known(func(a *act) {
		a.Answered = true
		complete(a)
	})
}

// value is the act as far as it is known by now.
func (it *armed) value() act {
	it.mu.Lock()
	defer it.mu.Unlock()
	a := it.act
	a.Reserved, a.Snapshots = slices.Clone(a.Reserved), slices.Clone(a.Snapshots)
	return a
}

// Undo undoes the act now. One that fails stays armed.
func (it *armed) Undo(ctx context.Context) error { return it.entry.Undo(ctx) }

// Disarm lets the act be.
func (it *armed) Disarm() {
	it.entry.Disarm()
	it.over()
}

// allPending lists what is armed, in the order of the acts.
func (b *build) allPending() []*armed {
	b.armedMu.Lock()
	defer b.armedMu.Unlock()
	return slices.DeleteFunc(slices.Clone(b.armed), func(it *armed) bool { return !it.stack.Holds(it.entry) })
}

// pending lists the acts of a stack that are to be undone, in the order in which
// they would be.
func (b *build) pending(stack *undo.Stack) []act {
	var acts []act
	for _, it := range slices.Backward(b.allPending()) {
		if it.stack == stack {
			acts = append(acts, it.value())
		}
	}
	return acts
}

// unmount undoes a mount. What could not be written to its disk is told, and is no
// reason to leave the disk attached: it is there for nobody any more.
func (b *build) unmount(ctx context.Context, a act) error {
	err := b.machine.Leave(ctx, a.Path)
	if errors.Is(err, chroot.ErrNotWritten) {
		b.report.Warn("%v", err)
		err = nil
	}
	return nothingIf(!a.Answered, err)
}

// nothingIf is undo.ErrNothing in the place of success, if there was nothing to undo.
func nothingIf(none bool, err error) error {
	if none && err == nil {
		return undo.ErrNothing
	}
	return err
}

// releaseNames gives reserved device names back. A reservation of another process
// has ended with that.
func (b *build) releaseNames(a act) error {
	for _, name := range slices.Backward(a.Reserved) {
		release, ok := b.releases[name]
		if !ok {
			continue
		}
		if err := release(); err != nil {
			return err
		}
		delete(b.releases, name)
	}
	if b.nameLost {
		return b.machine.Sweep(a.LockDir)
	}
	return nothingIf(len(a.Reserved) == 0, nil)
}

// detach undoes an attachment. When the cloud has not answered the request for
// it, it is looked for.
func (b *build) detach(ctx context.Context, a act) error {
	if !a.Answered {
		there, err := lost(ctx, b.patience(a), func(ctx context.Context) ([]VolumeID, error) { return b.attached(ctx, a.Volume) })
		if err != nil || len(there) == 0 {
			return nothingIf(true, err)
		}
	}
	if err := b.cloud.Detach(ctx, a.Volume, a.Host); err != nil {
		return err
	}
	what := fmt.Sprintf("%s to be detached from %s", a.Volume, a.Host)
	return b.waits.Attachment.until(ctx, what, going(func(ctx context.Context) (sight, error) {
		v, err := b.cloud.Volume(ctx, a.Volume)
		if err == nil && v.Attach == Detached && v.State == VolumeAvailable {
			b.free.Store(a.Volume, true)
		}
		return sight{state: string(v.Attach), done: v.Attach == Detached}, err
	}))
}

// attached answers the volume if it is attached, or none.
func (b *build) attached(ctx context.Context, id VolumeID) ([]VolumeID, error) {
	v, err := b.cloud.Volume(ctx, id)
	if errors.Is(err, ErrNotFound) || (err == nil && v.Attach == Detached) {
		return nil, nil
	}
	return []VolumeID{id}, err
}

// deleteVolumes undoes a creation.
func (b *build) deleteVolumes(ctx context.Context, a act) error {
	return undoing[VolumeID]{
		own:    func(ctx context.Context, id VolumeID) error { return b.ownVolume(ctx, a, id) },
		find:   func(ctx context.Context) ([]VolumeID, error) { return b.cloud.FindVolumes(ctx, a.Build) },
		remove: b.deleteVolume,
	}.of(ctx, b, a, a.Volume)
}

// deleteSnapshots undoes a snapshot: it is found through its volume, which is the
// build's own.
func (b *build) deleteSnapshots(ctx context.Context, a act) error {
	return undoing[SnapshotID]{
		own:   func(ctx context.Context, id SnapshotID) error { return b.ownSnapshot(ctx, a, id) },
		basis: func(ctx context.Context) error { return b.ofOwnVolume(ctx, a.Volume) },
		find:  func(ctx context.Context) ([]SnapshotID, error) { return b.cloud.FindSnapshots(ctx, a.Volume) },
		remove: func(ctx context.Context, id SnapshotID) error {
			if err := b.unused(ctx, id); err != nil {
				return err
			}
			return b.deleteSnapshot(ctx, b.cloud, id)
		},
	}.of(ctx, b, a, a.Snapshot)
}

// unused returns an error if a dead build's snapshot is still that of an image: then the
// journal is wrong about the image, which would be left without its root. An image that
// was just deregistered may be shown for a while.
func (b *build) unused(ctx context.Context, id SnapshotID) error {
	if b.reaping == nil {
		return nil
	}
	for begun := time.Now(); ; {
		images, err := b.cloud.FindImages(ctx, id)
		if err != nil || len(images) == 0 {
			return ignoreGone(err)
		}
		if time.Since(begun) >= b.waits.Lost {
			return foreign(id, "is in use by the image %s", images[0])
		}
		if err := sleep(ctx, min(b.waits.Lost/4, mostBetween)); err != nil {
			return err
		}
	}
}

// deregisterImages undoes an image: it is found through its snapshot, which is the
// build's own.
func (b *build) deregisterImages(ctx context.Context, a act) error {
	return undoing[ImageID]{
		own:    func(ctx context.Context, id ImageID) error { return b.ownImage(ctx, a, id) },
		basis:  func(ctx context.Context) error { return b.ofOwnSnapshot(ctx, a.Snapshot) },
		find:   func(ctx context.Context) ([]ImageID, error) { return b.cloud.FindImages(ctx, a.Snapshot) },
		remove: func(ctx context.Context, id ImageID) error { return b.takeBack(ctx, b.cloud, a, id) },
	}.of(ctx, b, a, a.Image)
}

// takeBack deregisters an image that the act has made, also if it is protected.
func (b *build) takeBack(ctx context.Context, cloud Cloud, a act, id ImageID) error {
	if a.Guarded {
		if err := cloud.Unguard(ctx, id); err != nil {
			return err
		}
	}
	return b.deregister(ctx, cloud, id)
}
