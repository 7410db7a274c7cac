package state

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// database holds everything that is saved, by ID.
type database struct {
	Version   int
	VMs       map[string]*vmRecord
	Volumes   map[string]*volumeRecord
	Snapshots map[string]*snapshotRecord
	Images    map[string]*imageRecord
	Tokens    map[string]tokenRecord
	// Settings holds the settings that accounts have changed, by settingsKey.
	Settings map[string]Settings `json:",omitempty"`
	// Secret authenticates the tokens that the cloud issues.
	Secret []byte `json:",omitempty"`
}

func newDatabase() database {
	return database{
		Version:   version,
		VMs:       map[string]*vmRecord{},
		Volumes:   map[string]*volumeRecord{},
		Snapshots: map[string]*snapshotRecord{},
		Images:    map[string]*imageRecord{},
		Tokens:    map[string]tokenRecord{},
	}
}

// check returns an error if a table is missing or an entry is not under its ID.
func (db *database) check() error {
	if db.VMs == nil || db.Volumes == nil || db.Snapshots == nil || db.Images == nil || db.Tokens == nil {
		return errors.New("it lacks a table")
	}
	for _, err := range []error{
		checkTable(db.VMs), checkTable(db.Volumes), checkTable(db.Snapshots), checkTable(db.Images),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkTable[R interface {
	record
	comparable
}](table map[string]R) error {
	var none R
	for id, r := range table {
		if r == none || r.key() != id {
			return fmt.Errorf("its entry %q belongs to another resource", id)
		}
	}
	return nil
}

// work is the unfinished work on a resource's data. It is saved, so that a restart after a kill
// can complete it.
type work string

const (
	noWork   work = ""
	creating work = "creating"
	deleting work = "deleting"
)

// record is an entry of a table.
type record interface{ resource }

// A record embeds the resource without the attributes that follow from the clock.

type vmRecord struct {
	VM
	Ready time.Time // when it is running
	Ended time.Time // when it is terminated; zero if not requested
}

type volumeRecord struct {
	Volume
	Ready   time.Time // when it is available
	Removed time.Time // when its deletion was requested
	Gone    time.Time // when it is no longer listed
	Work    work
	Failed  string // the reason for the state error
	Stuck   bool   // it will never be available
	Link    *link
	Change  *change
	// Changes are the times of the modifications of the last day.
	Changes []time.Time `json:",omitempty"`
	// Lineage is that of its snapshot, "" if it has none.
	Lineage string `json:",omitempty"`
	// distorted is that of its snapshot while its data is created.
	distorted bool
	// RecordOnly marks a volume without data, of a VM that is not this machine.
	RecordOnly bool
}

// link is the record of an attachment.
type link struct {
	Attachment
	Host      bool      // to the machine that loopcloud runs on
	Making    bool      // its device is being created
	Ready     time.Time // when it is attached
	Detaching bool
	Due       time.Time // when it may end
	Force     bool
	tried     bool // ending it was attempted
	Remove    bool // the volume is deleted with it
}

// change is the record of a modification.
type change struct {
	Modification
	Optimizing time.Time // when the state optimizing begins
}

type snapshotRecord struct {
	Snapshot
	Ready  time.Time // when it is completed
	Work   work
	Failed string // the reason for the state error
	// Lineage is the ID of the first resource whose data the snapshot has: a volume, or a snapshot
	// without a volume. It is "" in the records of earlier versions.
	Lineage string `json:",omitempty"`
	// Upload describes a snapshot that is written block by block, until it is sealed.
	Upload *upload `json:",omitempty"`
	// Distorted means that blocks which the snapshot does not have read as noise.
	Distorted bool `json:",omitempty"`
}

type imageRecord struct {
	Image
	Ready  time.Time // when it is available
	Work   work
	Failed string // the reason for the state failed
}

func (r *volumeRecord) working() *work   { return &r.Work }
func (r *snapshotRecord) working() *work { return &r.Work }
func (r *imageRecord) working() *work    { return &r.Work }

// view returns the VM at a time.
func (r *vmRecord) view(now time.Time) VM {
	out := r.VM
	out.Tags = maps.Clone(r.Tags)
	switch {
	case r.Ended.IsZero() && now.Before(r.Ready):
		out.State = VMPending
	case r.Ended.IsZero():
		out.State = VMRunning
	case now.Before(r.Ended):
		out.State = VMShuttingDown
	default:
		out.State = VMTerminated
	}
	return out
}

// view returns the volume at a time.
func (r *volumeRecord) view(now time.Time) Volume {
	out := r.Volume
	out.Tags = maps.Clone(r.Tags)
	out.State = r.state(now)
	if r.Link != nil {
		a := r.Link.view(now)
		out.Attachment = &a
	}
	if r.Change != nil {
		m := r.Change.view(now)
		out.Modification = &m
	}
	return out
}

func (r *volumeRecord) state(now time.Time) VolumeState {
	switch {
	case !r.Removed.IsZero():
		return VolumeDeleting
	case r.Work == creating || now.Before(r.Ready):
		return VolumeCreating
	case r.Failed != "":
		return VolumeError
	case r.Link != nil:
		return VolumeInUse
	}
	return VolumeAvailable
}

func (l *link) view(now time.Time) Attachment {
	out := l.Attachment
	switch {
	case l.Detaching:
		out.State = Detaching
	case now.Before(l.Ready) || l.Making:
		out.State = Attaching
	default:
		out.State = Attached
	}
	return out
}

func (m *change) view(now time.Time) Modification {
	out := m.Modification
	switch {
	case now.Before(m.Optimizing):
		out.State = "modifying"
	case now.Before(m.Ended):
		out.State = "optimizing"
	default:
		out.State = "completed"
	}
	out.Progress = percent(m.Started, m.Ended, now)
	if out.State != "completed" {
		out.Ended = time.Time{}
	}
	return out
}

// view returns the snapshot at a time.
func (r *snapshotRecord) view(now time.Time) Snapshot {
	out := r.Snapshot
	out.Tags = maps.Clone(r.Tags)
	out.CreateVolume = r.CreateVolume.clone()
	out.ProductCodes = slices.Clone(r.ProductCodes)
	out.State, out.Progress = SnapshotCompleted, 100
	if r.Upload != nil && !r.Upload.Sealed {
		out.State, out.Progress, out.Reason = r.Upload.view(now)
		return out
	}
	if r.Work == creating || now.Before(r.Ready) {
		out.State, out.Progress = SnapshotPending, min(99, int(percent(r.begun(), r.Ready, now)))
	} else if r.Failed != "" {
		out.State, out.Progress, out.Reason = SnapshotError, 0, r.Failed
	}
	return out
}

// begun returns the time at which the cloud began to complete the snapshot.
func (r *snapshotRecord) begun() time.Time {
	if r.Upload != nil {
		return r.Upload.Active
	}
	return r.Started
}

// view returns the image at a time.
func (r *imageRecord) view(now time.Time) Image {
	out := r.Image
	out.Tags = maps.Clone(r.Tags)
	out.Launch = r.Launch.clone()
	out.Mappings = cloneMappings(r.Mappings)
	out.BootModes = slices.Clone(r.BootModes)
	out.ProductCodes = slices.Clone(r.ProductCodes)
	out.Protection = cmp.Or(r.Protection, Unprotected)
	switch {
	case r.Work == creating || now.Before(r.Ready):
		out.State = ImagePending
	case r.Failed != "":
		out.State, out.Reason = ImageFailed, r.Failed
	case r.Disabled:
		out.State = ImageDisabled
	default:
		out.State = ImageAvailable
	}
	return out
}

func cloneMappings(in []Mapping) []Mapping {
	out := slices.Clone(in)
	for i, m := range out {
		if m.Volume != nil {
			v := *m.Volume
			out[i].Volume = &v
		}
	}
	return out
}

// percent returns the elapsed part of the time between from and to.
func percent(from, to, now time.Time) int64 {
	whole, gone := to.Sub(from), now.Sub(from)
	if gone >= whole {
		return 100
	}
	return max(0, int64(100*float64(gone)/float64(whole)))
}

// listed returns the views of the selected records, oldest first.
func listed[R record, V any](table map[string]R, want func(R) bool, view func(R) V) []V {
	var found []R
	for _, r := range table {
		if want(r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, older)
	out := make([]V, len(found))
	for i, r := range found {
		out[i] = view(r)
	}
	return out
}
