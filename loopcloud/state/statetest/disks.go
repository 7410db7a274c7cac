// Package statetest contains test doubles for a state.Cloud: disks without data, a clock that only
// tests move, and numbered IDs.
package statetest

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

var _ state.Disks = (*Disks)(nil)

// Disks is a state.Disks that stores a text instead of the data of each volume and snapshot. It
// records calls that work on one ID at the same time, and returns fs.ErrNotExist if a volume or
// snapshot is missing.
type Disks struct {
	mu        sync.Mutex
	volumes   map[string]string // content by ID
	snapshots map[string]string
	attached  map[string]string // device name by volume
	working   map[string]bool
	busy      map[string]bool  // devices in use
	fail      map[string]error // by method
	gate      <-chan struct{}
	released  int
	clashes   []string
}

// NewDisks are disks on which there is nothing.
func NewDisks() *Disks {
	return &Disks{
		volumes: map[string]string{}, snapshots: map[string]string{}, attached: map[string]string{},
		working: map[string]bool{}, busy: map[string]bool{}, fail: map[string]error{},
	}
}

// Fail makes a method, such as CreateVolume, do nothing and return an error from now on; nil ends
// that.
func (d *Disks) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[method] = err
}

// SetBusy sets whether a volume's device is in use.
func (d *Disks) SetBusy(volume string, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy[volume] = busy
}

// Hold makes every call from now on wait until it can receive from the gate; nil ends that.
func (d *Disks) Hold(gate <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = gate
}

// Take makes a device name unavailable.
func (d *Disks) Take(device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attached["another program's "+device] = device
}

// Write sets the text of a volume.
func (d *Disks) Write(volume, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.volumes[volume] = text
}

// Volumes returns the text of each volume, by ID.
func (d *Disks) Volumes() map[string]string { return d.copied(&d.volumes) }

// Snapshots returns the text of each snapshot, by ID.
func (d *Disks) Snapshots() map[string]string { return d.copied(&d.snapshots) }

// Attached returns the device name of each attached volume, by ID.
func (d *Disks) Attached() map[string]string { return d.copied(&d.attached) }

func (d *Disks) copied(table *map[string]string) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(*table)
}

// Working returns the number of IDs with a call in progress.
func (d *Disks) Working() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, is := range d.working {
		if is {
			n++
		}
	}
	return n
}

// Released returns the number of calls to ReleaseAll.
func (d *Disks) Released() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.released
}

// Clashes returns the calls that began while another call worked on the same ID.
func (d *Disks) Clashes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.clashes)
}

// begin records that a call works on an ID, and waits if calls are held.
func (d *Disks) begin(method, id string) {
	d.mu.Lock()
	if d.working[id] {
		d.clashes = append(d.clashes, method+" "+id)
	}
	d.working[id] = true
	gate := d.gate
	d.mu.Unlock()
	if gate != nil {
		<-gate
	}
}

// do runs one call on an ID. It does nothing if the call is to fail.
func (d *Disks) do(method, id string, effect func() error) error {
	d.begin(method, id)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.working[id] = false
	if err := d.fail[method]; err != nil {
		return err
	}
	return effect()
}

func remove(from map[string]string, id string) error {
	if _, ok := from[id]; !ok {
		return fmt.Errorf("%s: %w", id, fs.ErrNotExist)
	}
	delete(from, id)
	return nil
}

func copyTo(to map[string]string, id string, from map[string]string, source string) error {
	text, ok := from[source]
	if !ok {
		return fmt.Errorf("%s: %w", source, fs.ErrNotExist)
	}
	to[id] = text
	return nil
}

// CreateVolume creates a volume with the text of the snapshot, or with none.
func (d *Disks) CreateVolume(id string, _ int64, snapshot string) error {
	return d.do("CreateVolume", id, func() error {
		if snapshot == "" {
			d.volumes[id] = ""
			return nil
		}
		return copyTo(d.volumes, id, d.snapshots, snapshot)
	})
}

// ResizeVolume adds the new size to the volume's text, as in "[16 GiB]".
func (d *Disks) ResizeVolume(id string, bytes int64) error {
	return d.do("ResizeVolume", id, func() error {
		d.volumes[id] += fmt.Sprintf("[%d GiB]", bytes>>30)
		return nil
	})
}

// DeleteVolume deletes a volume.
func (d *Disks) DeleteVolume(id string) error {
	return d.do("DeleteVolume", id, func() error { return remove(d.volumes, id) })
}

// AttachVolume returns /fake and the name, which must be free.
func (d *Disks) AttachVolume(id, name string) (string, error) {
	err := d.do("AttachVolume", id, func() error {
		for _, taken := range d.attached {
			if taken == name {
				return fmt.Errorf("%s: %w", name, state.ErrDeviceTaken)
			}
		}
		d.attached[id] = name
		return nil
	})
	return "/fake" + name, err
}

// DetachVolume detaches a volume unless its device is in use.
func (d *Disks) DetachVolume(id string, force bool) error {
	return d.do("DetachVolume", id, func() error {
		if d.busy[id] && !force {
			return fmt.Errorf("%s: %w", id, state.ErrBusy)
		}
		return remove(d.attached, id)
	})
}

// CreateSnapshot copies the volume's text.
func (d *Disks) CreateSnapshot(id, volume string) error {
	return d.do("CreateSnapshot", id, func() error { return copyTo(d.snapshots, id, d.volumes, volume) })
}

// CopySnapshot copies the source's text.
func (d *Disks) CopySnapshot(id, source string) error {
	return d.do("CopySnapshot", id, func() error { return copyTo(d.snapshots, id, d.snapshots, source) })
}

// DeleteSnapshot deletes a snapshot.
func (d *Disks) DeleteSnapshot(id string) error {
	return d.do("DeleteSnapshot", id, func() error { return remove(d.snapshots, id) })
}

// ImportSnapshot stores the file's text.
func (d *Disks) ImportSnapshot(id, file string) error {
	return d.do("ImportSnapshot", id, func() error {
		text, err := os.ReadFile(file)
		d.snapshots[id] = string(text)
		return err
	})
}

// ExportSnapshot writes the snapshot's text and the size into the file.
func (d *Disks) ExportSnapshot(id, file string, bytes int64) error {
	return d.do("ExportSnapshot", id, func() error {
		return os.WriteFile(file, fmt.Appendf(nil, "%s, %d GiB", d.snapshots[id], bytes>>30), 0o644)
	})
}

// ReleaseAll removes all attachments.
func (d *Disks) ReleaseAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released++
	d.attached = map[string]string{}
	return d.fail["ReleaseAll"]
}
