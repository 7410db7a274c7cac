// Package statetest is what tests stand a state.Cloud on: disks without bytes, a
// clock that stands still until it is moved, and ids that count. It is for tests
// only.
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

// Disks is a state.Disks that keeps a text in the place of each volume's and
// snapshot's bytes. It notes when two calls work on one id at once, and fails with
// fs.ErrNotExist when what a call needs is not there.
type Disks struct {
	mu        sync.Mutex
	volumes   map[string]string // by id: what they hold
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

// Fail makes a method, such as CreateVolume, fail and do nothing from now on; nil
// ends that.
func (d *Disks) Fail(method string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail[method] = err
}

// SetBusy says whether a volume's device is in use.
func (d *Disks) SetBusy(volume string, busy bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy[volume] = busy
}

// Hold lets every call from now on wait until it can receive from the gate; nil
// ends that.
func (d *Disks) Hold(gate <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gate = gate
}

// Take gives a device name to something that is none of the cloud's.
func (d *Disks) Take(device string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attached["another program's "+device] = device
}

// Write makes a volume hold a text.
func (d *Disks) Write(volume, text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.volumes[volume] = text
}

// Volumes tells what each volume holds, by id.
func (d *Disks) Volumes() map[string]string { return d.copied(&d.volumes) }

// Snapshots tells what each snapshot holds, by id.
func (d *Disks) Snapshots() map[string]string { return d.copied(&d.snapshots) }

// Attached tells the device name of each volume that has one, by id.
func (d *Disks) Attached() map[string]string { return d.copied(&d.attached) }

func (d *Disks) copied(table *map[string]string) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(*table)
}

// Working tells how many ids are worked on now.
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

// Released tells how often ReleaseAll was called.
func (d *Disks) Released() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.released
}

// Clashes are the calls that began while another one worked on the same id.
func (d *Disks) Clashes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.clashes)
}

// begin notes that a call works on an id, and waits if calls are held.
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

// do is one call: it works on one id, and does nothing when it is to fail.
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

// CreateVolume makes a volume that holds the snapshot's text, or none.
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

// DeleteVolume forgets a volume.
func (d *Disks) DeleteVolume(id string) error {
	return d.do("DeleteVolume", id, func() error { return remove(d.volumes, id) })
}

// AttachVolume answers /fake and the name, which must be nobody else's.
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

// DetachVolume gives the name up, unless the device is in use.
func (d *Disks) DetachVolume(id string, force bool) error {
	return d.do("DetachVolume", id, func() error {
		if d.busy[id] && !force {
			return fmt.Errorf("%s: %w", id, state.ErrBusy)
		}
		return remove(d.attached, id)
	})
}

// CreateSnapshot keeps the volume's text.
func (d *Disks) CreateSnapshot(id, volume string) error {
	return d.do("CreateSnapshot", id, func() error { return copyTo(d.snapshots, id, d.volumes, volume) })
}

// CopySnapshot keeps the source's text.
func (d *Disks) CopySnapshot(id, source string) error {
	return d.do("CopySnapshot", id, func() error { return copyTo(d.snapshots, id, d.snapshots, source) })
}

// DeleteSnapshot forgets a snapshot.
func (d *Disks) DeleteSnapshot(id string) error {
	return d.do("DeleteSnapshot", id, func() error { return remove(d.snapshots, id) })
}

// ImportSnapshot keeps the file's text.
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

// ReleaseAll forgets all attachments.
func (d *Disks) ReleaseAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.released++
	d.attached = map[string]string{}
	return d.fail["ReleaseAll"]
}
