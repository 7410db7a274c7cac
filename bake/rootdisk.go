package bake

import (
	"context"
	"fmt"
)

// A rootDisk is the disk of the new image during a build: an attached volume, or a direct disk.
// The steps of a build call its methods in this order. Methods whose names end in -ing return
// the heading of the method after them.
type rootDisk interface {
	creating() string
	// create requests the resource that will have the content.
	create(context.Context) error
	attaching() string
	// attach makes the disk a block device of this host.
	attach(context.Context) error
	finding() string
	// find waits until the kernel shows the disk.
	find(context.Context) (Disk, error)
	// armMount arms the act of mounting the root.
	armMount(mounting) (armedMount, error)
	taking() string
	// take fixes the content of the snapshot. The disk must not be mounted.
	take(context.Context) error
	removing() string
	// remove removes everything of the disk but its snapshot.
	remove(context.Context) error
	// taken waits for the snapshot.
	taken(context.Context) (SnapshotID, error)
	// explain returns the error of a failed build with the disk's own failure, if there is one.
	explain(error) error
	// marked returns the snapshot that carries the build's tag, which is removed after the build has
	// succeeded; "" if there is none.
	marked() SnapshotID
}

// rootDisk returns the disk of the build, which it creates at the first call.
func (b *build) rootDisk(from preflight) rootDisk {
	switch {
	case b.disk != nil:
	case b.plan.Direct:
		b.disk = &directDisk{b: b, from: from}
	default:
		b.disk = &attachedDisk{b: b, from: from}
	}
	return b.disk
}

// attachedDisk is a volume that is attached to this host.
type attachedDisk struct {
	b        *build
	from     preflight
	root     volume
	attached attachment
	snapshot armed[snapshotAct]
}

func (d *attachedDisk) creating() string { return volumeHeading(d.from) }

func (d *attachedDisk) create(ctx context.Context) (err error) {
	d.root, err = d.b.createVolume(ctx, d.from)
	return err
}

func (d *attachedDisk) attaching() string {
	return fmt.Sprintf("Attaching %s to %s", d.root.id, d.from.Host.ID)
}

func (d *attachedDisk) attach(ctx context.Context) (err error) {
	d.attached, err = d.b.attach(ctx, d.from.Host, d.root)
	return err
}

func (d *attachedDisk) finding() string {
	return fmt.Sprintf("Waiting for the device of %s", d.root.id)
}

func (d *attachedDisk) find(ctx context.Context) (Disk, error) { return d.b.find(ctx, d.attached) }

func (d *attachedDisk) armMount(m mounting) (armedMount, error) {
	armed, err := arm(d.b.undoer, scaffold, mountAct{
		mounting: m, Volume: d.attached.volume, Host: d.attached.host, Before: d.attached.before,
	})
	return armedMount{armed.entry, func() { armed.settle(func(a *mountAct) { a.Answered = true }) }}, err
}

func (d *attachedDisk) taking() string { return fmt.Sprintf("Taking a snapshot of %s", d.root.id) }

func (d *attachedDisk) take(ctx context.Context) (err error) {
	d.snapshot, err = d.b.snapshot(ctx, d.from, d.root)
	return err
}

func (d *attachedDisk) removing() string { return fmt.Sprintf("Detaching and deleting %s", d.root.id) }

func (d *attachedDisk) remove(ctx context.Context) error {
	return d.b.removeVolume(ctx, d.attached, d.root)
}

func (d *attachedDisk) taken(ctx context.Context) (SnapshotID, error) {
	taken := d.snapshot.value()
	return taken.Snapshot, d.b.completeSnapshot(ctx, d.from, taken)
}

func (d *attachedDisk) explain(err error) error { return err }

func (d *attachedDisk) marked() SnapshotID { return "" }
