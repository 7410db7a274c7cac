package undo

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// suffix ends the names of journals; a journal is named after its build.
const suffix = ".journal"

// suffixTorn and suffixNewer end the names of journals that are set aside.
const (
	suffixTorn  = ".torn"
	suffixNewer = ".newer"
)

// validBuild matches the id of a build, which becomes the name of a file.
var validBuild = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)

// A journal is the part of a ledger that outlives the process: a file of one record a
// line, each written before the act that it describes is begun. It is locked while its
// build runs. A process that can take the lock knows that the build has ended, and may undo
// its outstanding acts.
//
// A nil journal records nothing. A journal may be used by several goroutines.
type journal struct {
	header Header
	path   string
	// dir is the directory of the journal.
	dir *safedir.Dir

	mu   sync.Mutex
	file *os.File
	// size is that of the whole records, in bytes.
	size int64
	// replayed is the state that the records lead to.
	replayed replay
	// broken is why nothing more can be written, if so.
	broken error
}

// createJournal creates the journal of a build in a directory, which is created, for its
// user alone, if it is missing.
func createJournal(dir string, h Header) (*journal, error) {
	h.Version, h.Boot = FormatVersion, bootID()
	j := &journal{header: h, path: filepath.Join(dir, h.Build+suffix), replayed: replay{header: h}}
	if err := j.create(dir); err != nil {
		return nil, fmt.Errorf("cannot begin the journal of build %s: %w", h.Build, err)
	}
	return j, nil
}

func (j *journal) create(dir string) error {
	if !validBuild.MatchString(j.header.Build) {
		return fmt.Errorf("%q is not the id of a build", j.header.Build)
	}
	var err error
	if j.dir, err = trustedDir(safedir.Make(dir, 0o700)); err != nil {
		return err
	}
	if err := j.open(); err != nil {
		return errors.Join(err, j.dir.Close())
	}
	err = j.write(record{Verb: verbBuild, Header: &j.header}, true)
	if err == nil {
		err = j.dir.Sync()
	}
	if err != nil {
		return errors.Join(err, j.remove(), j.file.Close(), j.dir.Close())
	}
	return nil
}

// name returns the name of the journal's file in its directory.
func (j *journal) name() string { return filepath.Base(j.path) }

// remove removes the journal's file.
func (j *journal) remove() error { return j.dir.Remove(j.name()) }

// trustedDir closes a directory, and fails, if another user could create journals in it,
// or has: a directory of root's is not good enough for another user.
func trustedDir(d *safedir.Dir, err error) (*safedir.Dir, error) {
	if err != nil {
		return nil, err
	}
	info, err := d.Stat()
	if err == nil {
		err = trusted(d.Path(), info)
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// open creates the file and locks it. A process that looks for journals may have seen the
// new file before it was locked, and removed it because it is empty.
func (j *journal) open() error {
	for {
		f, err := j.dir.OpenFile(j.name(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if err := lock(f, true); err != nil {
			return errors.Join(err, j.remove(), f.Close())
		}
		if j.dir.Holds(j.name(), f) {
			j.file = f
			return nil
		}
		f.Close()
	}
}

// filePath returns the path of the file; empty for no journal.
func (j *journal) filePath() string {
	if j == nil {
		return ""
	}
	return j.path
}

// begun returns when the build began: never before the file was created, if the file
// system records that.
func (j *journal) begun() time.Time {
	created := birthTime(j.file)
	if created.After(j.header.Start) && !created.After(time.Now()) {
		return created
	}
	return j.header.Start
}

// outstanding returns the number of outstanding acts.
func (j *journal) outstanding() int {
	if j == nil {
		return 0
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.replayed.outstanding())
}

// acts returns all acts that were begun, in their order.
func (j *journal) acts() []Recorded {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.replayed.acts)
}

// hasEnded reports whether the build ended by itself.
func (j *journal) hasEnded() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.replayed.ended
}

// hasKept reports whether the acts of a group are not to be undone.
func (j *journal) hasKept(group Group) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Contains(j.replayed.kept, group)
}

// arm records that an act is about to be begun, and returns its number.
func (j *journal) arm(group Group, act any) (seq uint64, err error) {
	if j == nil {
		return 0, nil
	}
	raw, err := marshal(act)
	if err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seq = j.replayed.last + 1
	err = j.write(record{Verb: verbArmed, Seq: seq, Group: group, Act: raw, At: time.Now().UTC()}, true)
	if err != nil {
		return 0, fmt.Errorf("cannot write to the journal, so that nothing is begun: %w", err)
	}
	return seq, nil
}

// complete replaces the act in the journal.
func (j *journal) complete(seq uint64, act any, durable bool) error {
	if j == nil || seq == 0 {
		return nil
	}
	raw, err := marshal(act)
	if err != nil {
		return err
	}
	return j.change(record{Verb: verbKnown, Seq: seq, Act: raw}, durable)
}

// over records that nothing of an act is left to undo. Without the record it would be
// undone once more.
func (j *journal) over(seq uint64) error {
	if j == nil || seq == 0 {
		return nil
	}
	return j.change(record{Verb: verbOver, Seq: seq}, false)
}

// change writes a record about an act, unless that is over. An act is over even if this
// cannot be written: a full disk must not keep the journal.
func (j *journal) change(r record, durable bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, outstanding := j.replayed.find(r.Seq); !outstanding {
		return nil
	}
	err := j.write(r, durable)
	if err != nil && r.Verb == verbOver {
		return errors.Join(err, j.replayed.apply(r))
	}
	return err
}

// keep records that nothing of some groups is to be undone, of all or of none. If that
// cannot be written the journal is removed, for the sake of their resources.
func (j *journal) keep(groups []Group) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.write(record{Verb: verbKept, Groups: groups}, true)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("cannot write to the journal that the %s stay: %w", join(groups), err)
	if removeErr := j.remove(); removeErr != nil {
		return fmt.Errorf("%w; remove %s by hand, or the next build will take them for a dead build's and undo them: %w", err, j.path, removeErr)
	}
	j.replayed.acts = nil
	return err
}

func join(groups []Group) string {
	names := make([]string, len(groups))
	for i, group := range groups {
		names[i] = string(group)
	}
	return strings.Join(names, " and ")
}

// write appends a record, and syncs it if it must be durable. A record that was written
// in part is removed. The caller holds mu, or is the only one.
func (j *journal) write(r record, durable bool) error {
	if j.broken != nil {
		return j.broken
	}
	line, err := r.line()
	if err != nil {
		return err
	}
	if err := j.append(line, durable); err != nil {
		if back := j.file.Truncate(j.size); back != nil {
			j.broken = errors.Join(err, back)
		}
		return err
	}
	j.size += int64(len(line))
	if r.Verb == verbBuild {
		return nil
	}
	return j.replayed.apply(r)
}

func (j *journal) append(line []byte, durable bool) error {
	if _, err := j.file.WriteAt(line, j.size); err != nil || !durable {
		return err
	}
	return syncData(j.file)
}

// close ends the journal. It is removed if nothing is outstanding. Otherwise it stays for
// a later process, with a record that this one was not killed. Nothing may be written
// afterwards.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	left := len(j.replayed.outstanding()) > 0
	if j.header.Version > 1 && left && !j.replayed.ended {
		_ = j.write(record{Verb: verbEnded}, false) // without it the build counts as killed
	}
	j.broken = fmt.Errorf("%s: %w", j.path, os.ErrClosed)
	var err error
	if !left && j.dir.Holds(j.name(), j.file) {
		err = j.remove() // while it is locked: no other process takes it over
	}
	return errors.Join(err, j.file.Close(), j.dir.Close())
}

// Journals lists the journals in a directory; none if there is no directory.
func Journals(dir string) ([]string, error) {
	d, err := trustedDir(safedir.Open(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.Entries()
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), suffix) {
			paths = append(paths, filepath.Join(dir, entry.Name()))
		}
	}
	return paths, nil
}
