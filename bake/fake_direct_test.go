package bake_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
)

// direct is the variant for a build without a volume.
func direct(w *fake, p *bake.Plan) {
	p.Direct = true
	w.basis = bake.Basis{Read: "snap-source", Parent: "snap-source", Reason: "it is the account's own"}
}

// fakeDisk is a direct disk of the fake.
type fakeDisk struct {
	machine
	name string
	// detached means that it is a device no more, and aborted that its block server is dead.
	detached, aborted bool
	failed            chan struct{}
	failure           error
	// cacheError is the reason why the disk has no cache.
	cacheError string
}

const fakeLoop = "/dev/loop7"

// The cloud.

func (w *fake) Place(ctx context.Context) (bake.Host, error) {
	return bake.Host{Account: w.host.Account, Region: w.host.Region}, w.act(ctx, "place", func() error { return nil })
}

func (w *fake) Basis(ctx context.Context, _ bake.Facts, _ bake.Publication) (bake.Basis, error) {
	return w.basis, w.act(ctx, "basis", func() error { return nil })
}

func (w *fake) Blocks(ctx context.Context, id bake.SnapshotID) (block.Source, string, error) {
	return nil, "key of " + string(id), w.act(ctx, "blocks", func() error { return nil })
}

func (w *fake) Start(ctx context.Context, spec bake.StartSpec) (id bake.SnapshotID, err error) {
	err = w.act(ctx, "start", func() error {
		w.happened("start")
		w.startSpec = spec
		id = "snap-1"
		w.snapshots[id] = &fakeSnapshot{region: home, build: spec.Build, born: time.Now(), description: spec.Description, open: true}
		return nil
	})
	id = returnedID(w, "start", id)
	if err != nil {
		id = ""
	}
	return id, err
}

func (w *fake) FindStarted(ctx context.Context, build bake.BuildID) (ids []bake.SnapshotID, err error) {
	err = w.act(ctx, "find started", func() error {
		for id, s := range w.snapshots {
			if s.build == build && time.Since(s.born) >= w.lag {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, err
}

func (w *fake) Upload(ctx context.Context, spec bake.UploadSpec) (up bake.Uploaded, err error) {
	sum, err := spec.Changes(ctx, 1, func(context.Context, lazydisk.Change) error { return nil })
	if err != nil {
		return up, err
	}
	return bake.Uploaded{Blocks: 1, Summary: sum}, w.act(ctx, "upload", func() error {
		if w.dirty || len(w.mounted) > 0 {
			w.violation("a disk is uploaded that is mounted (%v) or not flushed", w.mounted)
		}
		w.happened("upload")
		s := w.snapshots[spec.Snapshot]
		if s == nil {
			return fmt.Errorf("%s: %w", spec.Snapshot, bake.ErrNotFound)
		}
		s.open, s.born = false, time.Now()
		return nil
	})
}

func (w *fake) Unmark(ctx context.Context, id bake.SnapshotID) error {
	return w.act(ctx, "unmark", func() error {
		if s := w.snapshots[id]; s != nil {
			w.happened("unmark")
			s.build = ""
		}
		return nil
	})
}

func (w *fake) Requests() []event.Requests {
	return []event.Requests{{Service: "world", Action: "block", Made: 1}}
}

// The machine.

func (m machine) CheckDirect(ctx context.Context) error {
	return m.act(ctx, "check direct", func() error { return nil })
}

func (m machine) OpenDisk(ctx context.Context, spec bake.DirectSpec) (bake.DirectDisk, error) {
	d := &fakeDisk{machine: m, name: spec.Name, failed: make(chan struct{})}
	err := m.act(ctx, "open disk", func() error {
		m.happened("open disk")
		m.direct = d
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func (m machine) FindDisk(ctx context.Context, name string) (path bake.DevicePath, err error) {
	err = m.act(ctx, "find disk", func() error {
		if m.direct != nil && m.direct.name == name && !m.direct.detached {
			path = fakeLoop
		}
		return nil
	})
	return path, err
}

func (m machine) AbortDisk(ctx context.Context, r bake.DiskRecord) error {
	return m.act(ctx, "abort disk", func() error {
		if m.direct != nil && m.direct.name == r.Name {
			m.direct.aborted = true
		}
		return nil
	})
}

func (m machine) CloseDisk(ctx context.Context, r bake.DiskRecord) error {
	return m.act(ctx, "~open disk", func() error {
		if m.direct == nil || m.direct.name != r.Name {
			return nil
		}
		if len(m.mounted) > 0 {
			m.violation("a disk is closed while %v is mounted", m.mounted)
		}
		m.happened("~open disk")
		m.direct = nil
		return nil
	})
}

func (d *fakeDisk) Record() bake.DiskRecord { return bake.DiskRecord{Name: d.name, Server: 4711} }

func (d *fakeDisk) Device() bake.DevicePath { return fakeLoop }

func (d *fakeDisk) Failed() <-chan struct{} { return d.failed }

func (d *fakeDisk) Failure(context.Context) error { return d.failure }

// fail fails the disk.
func (d *fakeDisk) fail(err error) {
	d.failure = err
	close(d.failed)
}

func (d *fakeDisk) Stats(context.Context) (lazydisk.Stats, error) {
	return lazydisk.Stats{
		Stats: fetch.Stats{Fetched: 12, Prefetched: 4, FromCache: 7},
		Read:  5 << 20, Written: 3 << 19, CacheError: d.cacheError,
	}, nil
}

func (d *fakeDisk) Detach(ctx context.Context) error {
	return d.act(ctx, "detach disk", func() error {
		if len(d.mounted) > 0 {
			d.violation("a disk is detached while %v is mounted", d.mounted)
		}
		d.detached = true
		return nil
	})
}

func (d *fakeDisk) Changes(ctx context.Context, _ int, call func(context.Context, lazydisk.Change) error) (sum lazydisk.Summary, err error) {
	err = d.act(ctx, "changes", func() error {
		if !d.detached {
			return errors.New("it is still attached")
		}
		return nil
	})
	if err != nil {
		return sum, err
	}
	return lazydisk.Summary{Written: 1}, call(ctx, lazydisk.Change{})
}
