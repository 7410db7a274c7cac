package bake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// An act is a change that a build makes and can undo. It is a value that is written to
// the journal, so that another process can undo it from that alone. Each kind of act is a
// type in the file of the step that makes it: volumeAct in volume.go, for example.
//
// The resource of an act has an id once the request has been answered. Until then it is
// found by the id or name of its source.
type act interface {
	// String names the resource in errors and messages.
	fmt.Stringer
	// kind returns the name of the kind in the journal.
	kind() string
	// check validates an act of a build that was read from a journal: on this host it is
	// undone as root, and in the cloud a resource that is looked for by no name could be
	// anybody's.
	check(build BuildID) error
	// undo undoes the act in the process that did it. It returns nil if the act is undone
	// already, and undo.ErrNothing if it had no effect. It is repeated after a failure.
	undo(context.Context, *undoer, *entry) error
	// undoInherited undoes the act for a build whose process has ended, as undo does. The
	// knowledge of that process beyond the journal is lost, and the journal is not trusted.
	undoInherited(context.Context, *undoer, *entry) error
	// removal returns the instruction for undoing the act by hand, or "" if none is needed.
	// remaining holds all outstanding acts.
	removal(remaining []act) string
	// isAnswered reports whether the request has been answered.
	isAnswered() bool
}

// kinds has a function for each kind of act that reads it from a journal.
var kinds = map[string]func(json.RawMessage, call) (act, error){
	volumeAct{}.kind():      read[volumeAct],
	reservationAct{}.kind(): read[reservationAct],
	attachmentAct{}.kind():  read[attachmentAct],
	mountAct{}.kind():       read[mountAct],
	snapshotAct{}.kind():    read[snapshotAct],
	startedAct{}.kind():     read[startedAct],
	diskAct{}.kind():        read[diskAct],
	directMountAct{}.kind(): read[directMountAct],
	imageAct{}.kind():       read[imageAct],
	copyAct{}.kind():        read[copyAct],
	furtherAct{}.kind():     read[furtherAct],
	replacedAct{}.kind():    read[replacedAct],
	oldSnapshotAct{}.kind(): read[oldSnapshotAct],
	buildTagAct{}.kind():    read[buildTagAct],
}

// call is the state of the request of an act.
type call struct {
	// Answered means that the request has been answered: the resource exists, or has
	// existed. Otherwise it may exist all the same.
	Answered bool `json:"answered,omitempty"`
	// Begun is when the act was begun: an older resource was not made by it.
	Begun time.Time `json:"begun,omitzero"`

	// asked is when a process that was killed made the request; zero otherwise.
	asked time.Time
	// over means that a journal records the act as finished: its resource is gone.
	over bool
}

func (c call) isAnswered() bool { return c.Answered }

func (c call) since() call { return c }

// inherit sets the fields that only a reader of a journal knows.
func (c *call) inherit(from call) { c.asked, c.over = from.asked, from.over }

// read reads an act of one kind. An unknown field is an error. So an older program does not misread
// a new field, and undo.FormatVersion stays the same: it reports the build as stuck, undoes nothing
// and keeps the journal for a program that knows the field.
func read[A act](fields json.RawMessage, from call) (act, error) {
	var a A
	dec := json.NewDecoder(bytes.NewReader(fields))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return nil, err
	}
	if inherits, ok := any(&a).(interface{ inherit(call) }); ok {
		inherits.inherit(from)
	}
	return a, nil
}

// recorded is an act as it stands in the journal: its kind beside its fields.
type recorded struct{ act }

// MarshalJSON implements json.Marshaler.
func (r recorded) MarshalJSON() ([]byte, error) {
	fields, err := json.Marshal(r.act)
	if err != nil {
		return nil, err
	}
	text := fmt.Appendf(nil, `{"kind":%q`, r.kind())
	if len(fields) > len("{}") {
		text = append(text, ',')
	}
	return append(text, fields[1:]...), nil
}

// readAct reads an act of a build from its journal. An act that this program does not
// know, or that no build would have written, is an error. killed means that the request
// of the act may still be under way.
func readAct(build BuildID, r undo.Recorded, killed bool) (recorded, error) {
	a, kind, err := parseAct(r, killed)
	if err != nil {
		return recorded{}, fmt.Errorf("act %d of the journal: %w", r.Seq, err)
	}
	if a == nil {
		err = errors.New("this program does not know it")
	} else {
		err = a.check(build)
	}
	if err != nil {
		return recorded{}, fmt.Errorf("act %d of the journal, a %s: %w", r.Seq, kind, err)
	}
	return recorded{a}, nil
}

// parseAct returns an act and its kind; no act if the kind is not known.
func parseAct(r undo.Recorded, killed bool) (a act, kind string, err error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(r.Act, &fields); err != nil {
		return nil, "", err
	}
	if err := json.Unmarshal(fields["kind"], &kind); err != nil {
		return nil, "", err
	}
	delete(fields, "kind")
	readKind, known := kinds[kind]
	if !known {
		return nil, kind, nil
	}
	rest, err := json.Marshal(fields)
	if err != nil {
		return nil, kind, err
	}
	from := call{over: r.Over}
	if killed {
		from.asked = r.At
	}
	a, err = readKind(rest, from)
	return a, kind, err
}

// errUnnamed is the error of an act that does not identify its resource.
var errUnnamed = errors.New("it does not say what it is of")

// named returns errUnnamed unless an act identifies its resource.
func named(identified bool) error {
	if !identified {
		return errUnnamed
	}
	return nil
}

// checkPath returns an error unless a path of a journal record is absolute and clean.
func checkPath(path string) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" {
		return fmt.Errorf("%q is not the absolute path of a file or directory", path)
	}
	return nil
}

// entry is an act in the ledger of a build.
type entry = undo.Entry[recorded]

// armed is an entry whose kind of act is known.
type armed[A act] struct{ *entry }

// arm adds an act to a group of the build's ledger before it is begun.
func arm[A act](u *undoer, group undo.Group, a A) (armed[A], error) {
	e, err := u.ledger.Arm(group, recorded{a})
	if err != nil {
		return armed[A]{}, fmt.Errorf("cannot begin the %s: %w", a, err)
	}
	return armed[A]{e}, nil
}

// value returns the act as far as it is known by now.
func (it armed[A]) value() A {
	a, _ := it.Act().act.(A)
	return a
}

// settle completes the act, for example by the id of its resource.
func (it armed[A]) settle(complete func(*A)) { settleAct(it.entry, complete) }

// settleAct completes an act of a known kind.
func settleAct[A act](e *entry, complete func(*A)) {
	e.Settle(func(r recorded) recorded {
		if a, ok := r.act.(A); ok {
			complete(&a)
			r.act = a
		}
		return r
	})
}

// actsOf returns all acts of a kind that are known of the build, those that are over
// included.
func actsOf[A act](u *undoer) []A {
	var all []A
	for _, r := range u.ledger.Acts() {
		if a, ok := r.act.(A); ok {
			all = append(all, a)
		}
	}
	return all
}

// findAct returns an act of a kind for which a condition holds.
func findAct[A act](u *undoer, is func(A) bool) (found A, ok bool) {
	for _, a := range actsOf[A](u) {
		if is(a) {
			return a, true
		}
	}
	return found, false
}

// idOr names a resource by its id or, if that is not known, by its source.
func idOr[ID ~string](what string, id ID, source string) string {
	if id == "" {
		return what + " of " + source
	}
	return what + " " + string(id)
}

// snapshotList names snapshots.
func snapshotList(ids []SnapshotID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = "snapshot " + string(id)
	}
	return strings.Join(names, " and ")
}
