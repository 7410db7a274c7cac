// Package undo keeps a ledger of the changes that a build makes, so that they can be
// undone: by the build itself, or by another process if the build was killed.
//
// An act is armed before it begins, because an act that succeeds partly, or whose response is
// lost, must be undone too. The undo must therefore succeed if there is nothing to undo, and
// must be repeatable after a failure.
//
//	        Arm                Undo, nil
//	(none) ─────→ outstanding ───────────→ over
//	               │  ↑ └── Keep, Drop ─────↑
//	               └──┘ Settle, Extend; Undo, error
//
// With Begin each record is also written to a journal, a file that outlives the process.
// Resume takes over the journal of a build that has ended.
package undo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrNothing is returned by an undoing if the act had no effect, such as a request that
// was refused. The act is then over, and is not reported as undone.
var ErrNothing = errors.New("there was nothing to undo")

// A Group is a part of a ledger whose acts are undone together, or kept together. Its
// name stands in errors and in the journal.
type Group string

// A Ledger holds acts in the order in which they were begun. An act is a value that JSON
// can represent and that names itself in errors. A Ledger may be used by several
// goroutines.
type Ledger[A fmt.Stringer] struct {
	undo    func(context.Context, *Entry[A]) error
	journal *journal

	mu      sync.Mutex
	entries []*Entry[A]
}

// New returns an empty ledger without a journal, whose acts are undone by a function.
func New[A fmt.Stringer](undo func(context.Context, *Entry[A]) error) *Ledger[A] {
	return &Ledger[A]{undo: undo}
}

// Begin creates the journal of a build in a directory, which is created for its user
// alone if it is missing. No two builds may have the same id. Acts that were armed before
// are not in the journal.
func (l *Ledger[A]) Begin(dir string, h Header) (err error) {
	l.journal, err = createJournal(dir, h)
	return err
}

// Resume takes over the journal of a build that has ended. Load must be called before
// the ledger is used. An error wraps ErrAlive if the build is running, os.ErrNotExist if
// there is nothing to resume, and ErrTorn or ErrNewer if the journal cannot be trusted:
// it has then been set aside, and the error names the file.
func Resume[A fmt.Stringer](path string) (*Ledger[A], error) {
	j, err := inherit(path)
	if err != nil {
		return nil, err
	}
	return &Ledger[A]{journal: j}, nil
}

// Load reads the acts of a resumed journal. Those that are outstanding are armed, and
// undone by a function. An error means that an outstanding act could not be read; the
// acts that are over are left out if they cannot be read.
func (l *Ledger[A]) Load(read func(Recorded) (A, error), undo func(context.Context, *Entry[A]) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.undo = undo
	for _, r := range l.journal.acts() {
		a, err := read(r)
		switch {
		case err == nil:
			l.entries = append(l.entries, &Entry[A]{ledger: l, group: r.Group, seq: r.Seq, act: a, over: r.Over})
		case !r.Over:
			return err
		}
	}
	return nil
}

// Arm adds an act to a group before it is begun, and writes that to the disk. After an
// error the act must not be begun. Otherwise it must be undone, whatever happens to this
// process.
func (l *Ledger[A]) Arm(group Group, act A) (*Entry[A], error) {
	seq, err := l.journal.arm(group, act)
	if err != nil {
		return nil, err
	}
	e := &Entry[A]{ledger: l, group: group, seq: seq, act: act}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return e, nil
}

// Outstanding returns the entries of some groups that are to be undone, in the order in
// which they would be: the groups in the given order, and in each the last entry first.
// Without a group it returns the outstanding entries of all, the last one first.
func (l *Ledger[A]) Outstanding(groups ...Group) []*Entry[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []*Entry[A]
	add := func(in func(Group) bool) {
		for _, e := range slices.Backward(l.entries) {
			if !e.over && in(e.group) {
				found = append(found, e)
			}
		}
	}
	if len(groups) == 0 {
		add(func(Group) bool { return true })
	}
	for _, group := range groups {
		add(func(g Group) bool { return g == group })
	}
	return found
}

// Entries returns all entries in the order in which they were begun.
func (l *Ledger[A]) Entries() []*Entry[A] {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Names returns the names of the outstanding acts of some groups, in the order of
// Outstanding.
func (l *Ledger[A]) Names(groups ...Group) []string {
	var names []string
	for _, e := range l.Outstanding(groups...) {
		names = append(names, e.String())
	}
	return names
}

// Acts returns all acts that were begun: first those that are outstanding, then those
// that are over, each in the order in which they were begun.
func (l *Ledger[A]) Acts() []A {
	l.mu.Lock()
	defer l.mu.Unlock()
	var outstanding, over []A
	for _, e := range l.entries {
		if e.over {
			over = append(over, e.act)
		} else {
			outstanding = append(outstanding, e.act)
		}
	}
	return append(outstanding, over...)
}

// Release undoes the outstanding acts of a group, last in first out, and reports the name
// of each to undone, if that is not nil. It stops at the first failure, because earlier acts
// may only be undone afterwards: a disk that is still mounted is not detached. The
// error then names the act that failed and everything that was left. Release ends with
// ctx, or after limit.
func (l *Ledger[A]) Release(ctx context.Context, group Group, limit time.Duration, undone func(name string)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		left := l.Outstanding(group)
		if len(left) == 0 {
			return nil
		}
		name := left[0].String()
		some, err := left[0].run(ctx)
		if err != nil {
			return fmt.Errorf("cannot undo the %s: %s: %w; left as it is: %s",
				group, name, err, strings.Join(l.Names(group), ", "))
		}
		if undone != nil && some {
			undone(name)
		}
	}
}

// Keep settles that the acts of some groups are never undone, neither by this process nor
// by another one, all or none of them. If that cannot be written, the journal is removed
// for the sake of these acts, and an error returned.
func (l *Ledger[A]) Keep(groups ...Group) error {
	err := l.journal.keep(groups)
	for _, e := range l.Outstanding(groups...) {
		_ = e.end() // the journal has the record of the groups
	}
	return err
}

// Drop ends the outstanding acts of a group without undoing them. It stops at the first
// one for which that cannot be written.
func (l *Ledger[A]) Drop(group Group) error {
	for _, e := range slices.Backward(l.Outstanding(group)) {
		if err := e.end(); err != nil {
			return err
		}
	}
	return nil
}

// Kept reports whether the journal says that a group was kept: its build succeeded.
func (l *Ledger[A]) Kept(group Group) bool { return l.journal.hasKept(group) }

// Header returns the header of the journal.
func (l *Ledger[A]) Header() Header { return l.journal.header }

// Path returns the path of the journal; empty if there is none.
func (l *Ledger[A]) Path() string { return l.journal.filePath() }

// Begun returns when the build of a resumed journal began: never before its file was
// created, if the file system records that.
func (l *Ledger[A]) Begun() time.Time { return l.journal.begun() }

// Ended reports whether the build of a resumed journal ended by itself, and was not
// killed. It returns false if that is not known.
func (l *Ledger[A]) Ended() bool { return l.journal.hasEnded() }

// Close ends the journal. It is removed if nothing in it is outstanding. Otherwise it
// stays for a later process, with a record that this process was not killed.
func (l *Ledger[A]) Close() error { return l.journal.close() }

// Recorded reports whether something in the journal is outstanding.
func (l *Ledger[A]) Recorded() bool { return l.journal.outstanding() > 0 }

// An Entry is one act of a ledger.
type Entry[A fmt.Stringer] struct {
	ledger *Ledger[A]
	group  Group
	// seq is the number of the act in the journal; 0 if it is not in one.
	seq uint64

	// undoing is held while the act is undone.
	undoing sync.Mutex
	// changing is held while the act is settled.
	changing sync.Mutex

	// act and over are guarded by the ledger's mutex.
	act  A
	over bool
}

// Act returns the act as far as it is known by now.
func (e *Entry[A]) Act() A {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	return e.act
}

// Group returns the group of the entry.
func (e *Entry[A]) Group() Group { return e.group }

// String returns the name of the act.
func (e *Entry[A]) String() string { return e.Act().String() }

// Outstanding reports whether the act is still to be undone.
func (e *Entry[A]) Outstanding() bool {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	return !e.over
}

// Settle replaces the act by one that has more details, such as the id of the resource. The
// record need not reach the disk, because a created resource is found without it.
func (e *Entry[A]) Settle(settled func(A) A) {
	e.changing.Lock()
	defer e.changing.Unlock()
	act := settled(e.Act())
	e.set(act)
	_ = e.ledger.journal.complete(e.seq, act, false) // otherwise it will be looked up
}

// Extend replaces the act by one with a further effect, which is about to be begun, and
// writes that to the disk. After an error it must not be begun.
func (e *Entry[A]) Extend(extended func(A) A) error {
	e.changing.Lock()
	defer e.changing.Unlock()
	act := extended(e.Act())
	if err := e.ledger.journal.complete(e.seq, act, true); err != nil {
		return fmt.Errorf("cannot write to the journal, so that nothing is begun: %w", err)
	}
	e.set(act)
	return nil
}

func (e *Entry[A]) set(act A) {
	e.ledger.mu.Lock()
	defer e.ledger.mu.Unlock()
	e.act = act
}

// Undo undoes the act now. It returns nil if the act is over already. An act whose
// undoing fails stays outstanding, so that Release tries again.
func (e *Entry[A]) Undo(ctx context.Context) error {
	_, err := e.run(ctx)
	return err
}

// run is Undo, and reports whether there was anything to undo.
func (e *Entry[A]) run(ctx context.Context) (some bool, err error) {
	e.undoing.Lock()
	defer e.undoing.Unlock()
	if !e.Outstanding() {
		return true, nil
	}
	err = e.ledger.undo(ctx, e)
	none := errors.Is(err, ErrNothing)
	if err != nil && !none {
		return false, err
	}
	_ = e.finish() // if this cannot be written, a later process finds nothing to undo
	return !none, nil
}

// end ends the act without undoing it.
func (e *Entry[A]) end() error {
	e.undoing.Lock()
	defer e.undoing.Unlock()
	return e.finish()
}

// finish records that nothing of the act is left to undo. The caller holds undoing.
func (e *Entry[A]) finish() error {
	e.ledger.mu.Lock()
	e.over = true
	e.ledger.mu.Unlock()
	return e.ledger.journal.over(e.seq)
}

// marshal represents an act in the journal.
func marshal(act any) (json.RawMessage, error) {
	raw, err := json.Marshal(act)
	if err != nil {
		return nil, fmt.Errorf("cannot write down an act: %w", err)
	}
	return raw, nil
}
