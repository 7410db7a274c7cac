package undo

import (
	"encoding/json"
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

// validBuild is what the id of a build may be: it becomes the name of a file.
var validBuild = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,63}$`)

// A Journal is the memory of a build that outlives its process: which acts were
// begun and are not undone. It is a file of one record a line, each written before
// what it tells of is begun, and it is locked while its build lives. Whoever can
// take the lock knows that the build is dead, and may undo what is outstanding.
//
// A nil Journal remembers nothing. A Journal may be used by several goroutines.
type Journal struct {
	header Header
	path   string
	// dir is the directory of the journal.
	dir *safedir.Dir

	mu   sync.Mutex
	file *os.File
	// size is that of the whole records, in bytes.
	size   int64
	ledger ledger
	// broken is why nothing more can be written, if so.
	broken error
}

// Create begins the journal of a build in a directory, which is made, for its user
// alone, if it is missing. No two builds may have one id.
func Create(dir string, h Header) (*Journal, error) {
	h.Version, h.Boot = FormatVersion, bootID()
	j := &Journal{header: h, path: filepath.Join(dir, h.Build+suffix), ledger: ledger{header: h}}
	if err := j.create(dir); err != nil {
		return nil, fmt.Errorf("cannot begin the journal of build %s: %w", h.Build, err)
	}
	return j, nil
}

func (j *Journal) create(dir string) error {
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

// name is that of the journal's file in its directory.
func (j *Journal) name() string { return filepath.Base(j.path) }

// remove removes the journal's file.
func (j *Journal) remove() error { return j.dir.Remove(j.name()) }

// trustedDir closes a directory, and fails, if somebody else could put journals there, or
// has: a directory of root's is not good enough for another user.
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

// open makes the file and locks it. Who looks for journals of dead builds may have
// seen the new file before it was locked, and removed it because it is empty.
func (j *Journal) open() error {
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

// Header says whose journal it is.
func (j *Journal) Header() Header { return j.header }

// Path is the journal's file; empty for no journal.
func (j *Journal) Path() string {
	if j == nil {
		return ""
	}
	return j.path
}

// Pending lists the acts that are outstanding, in the order in which they were
// begun.
func (j *Journal) Pending() []Pending {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ledger.pending)
}

// Ended reports whether the build ended by itself, and was not killed. It is false if
// that is not known.
func (j *Journal) Ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ledger.ended
}

// Acts lists all acts that were begun, those that are over included, in their order.
func (j *Journal) Acts() []Pending {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.ledger.acts)
}

// Begun returns when the build began: never before its journal's file was made, if the
// file system tells that.
func (j *Journal) Begun() time.Time {
	born := born(j.file)
	if born.After(j.header.Start) && !born.After(time.Now()) {
		return born
	}
	return j.header.Start
}

// A Note is one act in a journal. A nil Note is in none.
type Note struct {
	journal *Journal
	seq     uint64
}

// Arm writes down that an act is about to be begun, and is on the disk when it
// returns. After an error the act must not be begun.
func (j *Journal) Arm(stack string, act any) (*Note, error) {
	if j == nil {
		return nil, nil
	}
	raw, err := json.Marshal(act)
	if err != nil {
		return nil, fmt.Errorf("cannot write down an act: %w", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	seq := j.ledger.last + 1
	if err := j.write(record{Verb: verbArmed, Seq: seq, Stack: stack, Act: raw, At: time.Now().UTC()}, true); err != nil {
		return nil, fmt.Errorf("cannot write to the journal, so that nothing is begun: %w", err)
	}
	return &Note{j, seq}, nil
}

// Note is the note of an act that is outstanding.
func (j *Journal) Note(p Pending) *Note { return &Note{j, p.Seq} }

// Known completes what is known of the act. It need not come to the disk: what the
// cloud has made is found without it.
func (n *Note) Known(act any) error { return n.complete(act, false) }

// Extend writes down that an act is about to become more than it was, and is on the
// disk when it returns. After an error that must not be begun.
func (n *Note) Extend(act any) error {
	if err := n.complete(act, true); err != nil {
		return fmt.Errorf("cannot write to the journal, so that nothing is begun: %w", err)
	}
	return nil
}

func (n *Note) complete(act any, durable bool) error {
	if n == nil {
		return nil
	}
	raw, err := json.Marshal(act)
	if err != nil {
		return err
	}
	return n.journal.note(record{Verb: verbKnown, Seq: n.seq, Act: raw}, durable)
}

// Over says that there is nothing left to undo of the act. Without it the act would
// be undone once more.
func (n *Note) Over() error {
	if n == nil {
		return nil
	}
	return n.journal.note(record{Verb: verbOver, Seq: n.seq}, false)
}

// note writes a record about an act, unless that is over. That an act is over is so even
// where it cannot be written: a disk that is full must not keep the journal.
func (j *Journal) note(r record, durable bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.ContainsFunc(j.ledger.pending, func(p Pending) bool { return p.Seq == r.Seq }) {
		return nil
	}
	err := j.write(r, durable)
	if err != nil && r.Verb == verbOver {
		return errors.Join(err, j.ledger.apply(r))
	}
	return err
}

// Kept says whether nothing of a stack is to be undone, for its build has succeeded.
func (j *Journal) Kept(stack string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Contains(j.ledger.kept, stack)
}

// Keep says that nothing of some stacks is to be undone, of all or of none. If that
// cannot be written the journal goes altogether, for the sake of what they hold.
func (j *Journal) Keep(stacks ...string) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.write(record{Verb: verbKept, Stacks: stacks}, true)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("cannot write to the journal that the %s stay: %w", strings.Join(stacks, " and "), err)
	if removeErr := j.remove(); removeErr != nil {
		return fmt.Errorf("%w; remove %s by hand, or the next build will take them for a dead build's and undo them: %w", err, j.path, removeErr)
	}
	j.ledger.pending = nil
	return err
}

// write appends a record, and has it reach the disk if that matters. What was half
// written is taken back. The caller holds mu, or is the only one.
func (j *Journal) write(r record, durable bool) error {
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
	return j.ledger.apply(r)
}

func (j *Journal) append(line []byte, durable bool) error {
	if _, err := j.file.WriteAt(line, j.size); err != nil || !durable {
		return err
	}
	return syncData(j.file)
}

// Close ends the journal. It is removed if nothing is outstanding. Otherwise it stays
// for a later process, with a record that this one was not killed. Nothing may be
// written any more.
func (j *Journal) Close() error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.header.Version > 1 && len(j.ledger.pending) > 0 && !j.ledger.ended {
		_ = j.write(record{Verb: verbEnded}, false) // without it the build counts as killed
	}
	j.broken = fmt.Errorf("%s: %w", j.path, os.ErrClosed)
	var err error
	if len(j.ledger.pending) == 0 && j.dir.Holds(j.name(), j.file) {
		err = j.remove() // while it is locked: nobody takes it for a dead build's
	}
	return errors.Join(err, j.file.Close(), j.dir.Close())
}

// Journals lists the journals in a directory; none where there is no directory.
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
