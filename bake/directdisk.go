package bake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
)

// DirectDisks is the part of a Machine for direct builds: block devices whose blocks are fetched
// when they are first read.
type DirectDisks interface {
	// CheckDirect returns an error if this host lacks something that direct disks need.
	CheckDirect(context.Context) error
	// OpenDisk starts the block server of a disk and attaches a device to it. This process
	// serves the source until the disk is closed.
	OpenDisk(context.Context, DirectSpec) (DirectDisk, error)
	// FindDisk returns the device of a direct disk by its name; "" if there is none.
	FindDisk(ctx context.Context, name string) (DevicePath, error)
	// AbortDisk kills the block server of a disk: every read and write of the device then fails
	// at once. A server that has ended is no error.
	AbortDisk(context.Context, DiskRecord) error
	// CloseDisk ends the block server of a disk, and detaches its device, which must not be in
	// use. It returns nil if there is neither.
	CloseDisk(context.Context, DiskRecord) error
}

// DirectSpec is the specification of a direct disk.
type DirectSpec struct {
	// Name identifies the disk on this host: lazydisk.NamePrefix and the build's ID.
	Name  string
	Bytes int64
	// Blocks is the initial content. It is nil from scratch.
	Blocks block.Source
	// Key identifies the source in the cache; empty disables the cache.
	Key   string
	Cache cache.Options
	// Read and Server are the limits of Waits.
	Read, Server time.Duration
}

// DiskRecord is the information needed to end a direct disk after its keeper is gone.
type DiskRecord struct {
	Name string `json:"name"`
	// Server is the process ID of the block server, and Since its start time in clock ticks
	// since the boot. Server is 0 if it is not known.
	Server int    `json:"server,omitempty"`
	Since  uint64 `json:"since,omitempty"`
	// Boot is the kernel's boot_id: a process does not outlive a boot.
	Boot string `json:"boot,omitempty"`
	// Device is the node of its loop device, beside which nodes of partitions may be left.
	Device DevicePath `json:"device,omitempty"`
}

// DirectDisk is an open direct disk.
type DirectDisk interface {
	Record() DiskRecord
	Device() DevicePath
	// Failed returns a channel that is closed when a read or a write has failed for good, or
	// the block server has ended.
	Failed() <-chan struct{}
	// Failure returns the reason if the disk has failed, and otherwise nil.
	Failure(context.Context) error
	// Stats returns the figures of the disk.
	Stats(context.Context) (lazydisk.Stats, error)
	// Detach detaches the device, which must not be in use.
	Detach(context.Context) error
	// Changes calls a function with the changed blocks after Detach: see
	// lazydisk.Client.Changes.
	Changes(ctx context.Context, workers int, call func(context.Context, lazydisk.Change) error) (lazydisk.Summary, error)
}

// diskName returns the name of a build's direct disk.
func diskName(build BuildID) string { return lazydisk.NamePrefix + string(build) }

// directDisk is a disk whose blocks are read from a snapshot, and whose changed blocks become a
// new one.
type directDisk struct {
	b    *build
	from preflight

	started armed[startedAct]
	served  armed[diskAct]
	opened  DirectDisk
	// stopWatching ends the watch over the disk.
	stopWatching sync.Once
	watched      chan struct{}
	// removed is true when the disk is not needed any more.
	removed atomic.Bool
}

func (d *directDisk) creating() string {
	return fmt.Sprintf("Starting the snapshot of the image: %d GiB%s", d.from.volume.SizeGiB, d.basedOn())
}

// basedOn names the parent of the new snapshot.
func (d *directDisk) basedOn() string {
	if d.from.basis.Parent == "" {
		return ""
	}
	return fmt.Sprintf(", changes of %s", d.from.basis.Parent)
}

// create starts the snapshot. It is started before the build changes anything, so that missing
// permissions are reported before provisioning, and not after it.
func (d *directDisk) create(ctx context.Context) (err error) {
	d.started, err = d.b.start(ctx, d.from)
	return err
}

func (d *directDisk) attaching() string {
	if d.from.basis.Read == "" {
		return "Attaching an empty disk"
	}
	return fmt.Sprintf("Attaching %s as a disk whose blocks are fetched when they are read", d.from.basis.Read)
}

// attach starts the block server.
func (d *directDisk) attach(ctx context.Context) (err error) {
	spec := DirectSpec{Name: diskName(d.b.plan.Build), Bytes: d.from.volume.SizeGiB << 30, Cache: d.b.plan.BlockCache, Read: d.b.waits.Read, Server: d.b.waits.Server}
	if d.from.basis.Read != "" {
		if spec.Blocks, spec.Key, err = d.b.store.Blocks(ctx, d.from.basis.Read); err != nil {
			return err
		}
		if spec.Blocks != nil {
			spec.Blocks = eventfulSource{spec.Blocks, event.Of(ctx)}
		}
	}
	d.served, err = arm(d.b.undoer, scaffold, diskAct{DiskRecord: DiskRecord{Name: spec.Name}})
	if err != nil {
		return err
	}
	if d.opened, err = d.b.machine.OpenDisk(ctx, spec); err != nil {
		return err
	}
	d.served.settle(func(a *diskAct) { a.Answered, a.DiskRecord = true, d.opened.Record() })
	d.watch() //nolint:contextcheck // it lasts until the disk is removed
	return nil
}

// watch ends the build if the disk fails.
func (d *directDisk) watch() {
	d.watched = make(chan struct{})
	opened, watched := d.opened, d.watched
	go func() {
		select {
		case <-opened.Failed():
			d.b.cancel(opened.Failure(context.Background()))
		case <-watched:
		}
	}()
}

// unwatch ends the watch.
func (d *directDisk) unwatch() {
	if d.watched != nil {
		d.stopWatching.Do(func() { close(d.watched) })
	}
}

func (d *directDisk) finding() string {
	return fmt.Sprintf("Looking for the partitions of %s", d.opened.Device())
}

func (d *directDisk) find(context.Context) (Disk, error) {
	return Disk{Node: d.opened.Device(), Name: d.opened.Device()}, nil
}

func (d *directDisk) armMount(m mounting) (armedMount, error) {
	armed, err := arm(d.b.undoer, scaffold, directMountAct{mounting: m, Disk: d.served.value().DiskRecord})
	return armedMount{armed.entry, func() { armed.settle(func(a *directMountAct) { a.Answered = true }) }}, err
}

func (d *directDisk) taking() string {
	return fmt.Sprintf("Uploading the changed blocks to %s", d.started.value().Snapshot)
}

// take uploads the changed blocks.
func (d *directDisk) take(ctx context.Context) error {
	if err := d.detach(ctx); err != nil {
		return err
	}
	long, begun := reportWait(ctx, fmt.Sprintf("the upload to %s", d.started.value().Snapshot)), time.Now()
	defer long.end()
	up, err := d.b.store.Upload(ctx, UploadSpec{Snapshot: d.started.value().Snapshot, Basis: d.from.basis, Changes: d.opened.Changes})
	if err != nil {
		return err
	}
	d.reportTraffic(ctx, up, time.Since(begun))
	return nil
}

// detach detaches the device. A program of the host that uses it could prevent that for ever.
func (d *directDisk) detach(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, d.b.waits.Device)
	defer stop()
	return d.opened.Detach(ctx)
}

// mebibytes returns a number of blocks or bytes in MiB.
func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// reportTraffic reports how much was fetched and uploaded.
func (d *directDisk) reportTraffic(ctx context.Context, up Uploaded, took time.Duration) {
	if s, err := d.opened.Stats(ctx); err == nil {
		event.Emit(ctx, event.Transfer{Direction: event.FromSource, Bytes: s.FetchedBytes()})
		d.b.report.Detail("fetched %.1f MiB (%d blocks; %d others came from the block cache); the system read %.1f MiB and wrote %.1f MiB",
			mebibytes(s.FetchedBytes()), s.Fetched, s.FromCache, mebibytes(s.Read), mebibytes(s.Written))
		if s.CacheError != "" {
			d.b.report.Warn("blocks were not cached for later builds: %s", s.CacheError)
		}
		if s.Damaged > 0 {
			d.b.report.Warn("%d blocks in the cache were damaged, and were fetched again: check the disk that has %s", s.Damaged, d.b.plan.BlockCache.Dir)
		}
	}
	event.Emit(ctx, event.Transfer{Direction: event.ToSnapshot, Bytes: up.Blocks * block.Size, Took: took})
	d.b.report.Detail("uploaded %.1f MiB (%d of %d written blocks) in %s",
		mebibytes(up.Blocks*block.Size), up.Blocks, up.Written, took.Round(time.Millisecond))
}

func (d *directDisk) removing() string { return "Closing the disk" }

func (d *directDisk) remove(ctx context.Context) error {
	d.removed.Store(true)
	d.unwatch()
	return d.served.Undo(ctx)
}

func (d *directDisk) taken(ctx context.Context) (SnapshotID, error) {
	started := d.started.value()
	if err := d.b.startedCompleted(ctx, started); err != nil {
		return "", err
	}
	return started.Snapshot, d.b.cloud.Tag(ctx, string(started.Snapshot), d.from.labels.SnapshotTags)
}

// longestExplain is how long a block server may take to report why its disk has failed.
const longestExplain = 5 * time.Second

// explain adds the reason why the disk has failed: the programs that use it only report I/O errors.
func (d *directDisk) explain(err error) error {
	d.unwatch()
	if d.opened == nil || d.removed.Load() {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), longestExplain)
	defer stop()
	if failure := d.opened.Failure(ctx); failure != nil && !errors.Is(err, failure) {
		return fmt.Errorf("%w; %w", failure, err)
	}
	return err
}

func (d *directDisk) marked() SnapshotID {
	if d.from.publication.Passing {
		return "" // the snapshot is gone
	}
	return d.started.value().Snapshot
}
