package undo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"time"
)

// FormatVersion is the version of the journals that this package writes. It grows with each
// change that an older program would misread. A new field of an act is no such change: see read in
// bake/act.go.
const FormatVersion = 2

// ErrTorn is wrapped if a journal is damaged otherwise than by a crash of the machine. No
// record of it is acted on.
var ErrTorn = errors.New("the journal is damaged")

// ErrNewer is wrapped if a journal is of a later version than this program knows.
var ErrNewer = errors.New("the journal was written by a newer version")

// Header identifies the build of a journal.
type Header struct {
	// Version is that of the format.
	Version int `json:"version"`
	// Build is the id of the build, and Program its program, such as amazon-chroot.
	Build   string `json:"build"`
	Program string `json:"program"`
	// Account, Region and Endpoint locate the build's resources in the cloud.
	Account  string `json:"account"`
	Region   string `json:"region"`
	Endpoint string `json:"endpoint,omitempty"`
	// Cloud is the identity of a cloud that has one. Such a cloud is recognized by it,
	// and any other one by its Endpoint.
	Cloud string `json:"cloud,omitempty"`
	// Host is the virtual machine that the build runs on.
	Host string `json:"host"`
	// Start is when the build began.
	Start time.Time `json:"start"`
	// Boot is the kernel's boot_id at that time; Begin sets it.
	Boot string `json:"boot,omitempty"`
}

// Recorded is an act in a journal.
type Recorded struct {
	// Seq counts the acts of a build, from 1 on.
	Seq uint64
	// Group is the group that it belongs to.
	Group Group
	// Act is the act as it was armed, or settled later.
	Act json.RawMessage
	// At is when it was armed.
	At time.Time
	// Over reports whether nothing of it is left to undo.
	Over bool
}

// verb is the kind of a record.
type verb string

const (
	// verbBuild begins a journal.
	verbBuild verb = "build"
	// verbArmed is written before an act is begun.
	verbArmed verb = "armed"
	// verbKnown completes it.
	verbKnown verb = "known"
	// verbOver ends it: nothing of it is left to undo.
	verbOver verb = "over"
	// verbKept ends all acts of some groups at once.
	verbKept verb = "kept"
	// verbEnded means that the process ended by itself with acts outstanding: it was not
	// killed, so that none of its requests is under way. Since version 2.
	verbEnded verb = "ended"
)

// record is one line of a journal.
type record struct {
	Verb   verb            `json:"verb"`
	Header *Header         `json:"header,omitempty"`
	Seq    uint64          `json:"seq,omitempty"`
	Group  Group           `json:"stack,omitempty"`
	Groups []Group         `json:"stacks,omitempty"`
	Act    json.RawMessage `json:"act,omitempty"`
	At     time.Time       `json:"at,omitzero"`
}

// castagnoli is the polynomial of the checksums: the one that processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line returns the record as it is written: a checksum in eight hexadecimal digits, a
// space, JSON without a line feed, and a line feed.
func (r record) line() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

// readLine reads a line that was written by line, without the line feed. A field that it
// does not know is an error, unless it is lenient.
func readLine(line []byte, lenient bool) (r record, err error) {
	sum, text, found := bytes.Cut(line, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || len(sum) != 8 || err != nil || uint32(want) != crc32.Checksum(text, castagnoli) {
		return r, errors.New("its checksum is wrong")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if !lenient {
		dec.DisallowUnknownFields()
	}
	if err := dec.Decode(&r); err != nil {
		return r, err
	}
	if dec.More() {
		return r, errors.New("something follows the record")
	}
	return r, nil
}

// replay is the state that the records of a journal lead to.
type replay struct {
	header Header
	// acts are all that were armed, those that are over included.
	acts []Recorded
	last uint64
	// kept are the groups of which nothing is to be undone.
	kept []Group
	// ended means that the build was not killed.
	ended bool
}

// outstanding returns the acts that are to be undone, in the order in which they were
// begun.
func (l replay) outstanding() []Recorded {
	return slices.DeleteFunc(slices.Clone(l.acts), func(a Recorded) bool { return a.Over })
}

// find returns the index of an act, and reports whether it is outstanding.
func (l replay) find(seq uint64) (i int, outstanding bool) {
	i = slices.IndexFunc(l.acts, func(a Recorded) bool { return a.Seq == seq })
	return i, i >= 0 && !l.acts[i].Over
}

// decode reads a journal in a boot of the machine, and returns how many of its bytes are
// records. An incomplete end, left by a crash of the machine, counts as not written; in
// the boot that the journal was begun in there was no crash. An error wraps ErrTorn or
// ErrNewer, and comes with the header as far as it could be read.
func decode(text []byte, boot string) (l replay, size int, err error) {
	for number := 1; size < len(text); number++ {
		line, _, whole := bytes.Cut(text[size:], []byte("\n"))
		err := errors.New("it has no end")
		if whole {
			err = l.take(line, number == 1)
		}
		switch {
		case err == nil:
			size += len(line) + 1
		case errors.Is(err, ErrNewer):
			return l, size, err
		case l.crashed(boot) && unwritten(text[size:]):
			return l, size, nil
		default:
			return l, size, fmt.Errorf("%w: line %d: %w", ErrTorn, number, err)
		}
	}
	if l.header.Version == 0 {
		return l, size, fmt.Errorf("%w: it has no header", ErrTorn)
	}
	return l, size, nil
}

// crashed reports whether the machine may have crashed since the journal was begun.
func (l replay) crashed(boot string) bool {
	return l.header.Boot != "" && boot != "" && l.header.Boot != boot
}

// unwritten reports whether the end of a journal is that of records which were on their
// way to the disk in a crash: a line that is cut short, or that has zeros in it, and no
// record after it. Nothing relied on these records: a record that matters is synced
// first, and everything before it with it.
func unwritten(end []byte) bool {
	line, rest, whole := bytes.Cut(end, []byte("\n"))
	if whole && !bytes.ContainsRune(line, 0) {
		return false
	}
	for line := range bytes.Lines(rest) {
		if _, err := readLine(bytes.TrimSuffix(line, []byte("\n")), true); err == nil {
			return false
		}
	}
	return true
}

// take reads a line and applies it. To tell a newer version from damage, unknown fields
// of the first line are ignored at first.
func (l *replay) take(line []byte, first bool) error {
	if first {
		r, err := readLine(line, true)
		if err != nil {
			return err
		}
		if err := l.begin(r); err != nil {
			return err
		}
	}
	r, err := readLine(line, false)
	if err != nil || first {
		return err
	}
	return l.apply(r)
}

func (l *replay) begin(r record) error {
	if r.Verb != verbBuild || r.Header == nil || r.Header.Version < 1 {
		return errors.New("it is no header")
	}
	l.header = *r.Header
	if l.header.Version > FormatVersion {
		return fmt.Errorf("%w: format %d, and this program knows %d", ErrNewer, l.header.Version, FormatVersion)
	}
	if !validBuild.MatchString(l.header.Build) {
		return fmt.Errorf("%q is not the id of a build", l.header.Build)
	}
	return nil
}

func (l *replay) apply(r record) error {
	switch r.Verb {
	case verbArmed:
		if r.Seq <= l.last || r.Group == "" || len(r.Act) == 0 {
			return fmt.Errorf("act %d cannot follow act %d", r.Seq, l.last)
		}
		l.last = r.Seq
		l.acts = append(l.acts, Recorded{Seq: r.Seq, Group: r.Group, Act: r.Act, At: r.At})
		return nil
	case verbKept:
		l.keep(r.Groups)
		return nil
	case verbEnded:
		l.ended = true
		return nil
	case verbKnown, verbOver:
		return l.change(r)
	}
	return fmt.Errorf("it says %q, which means nothing here", r.Verb)
}

// keep ends the acts of some groups.
func (l *replay) keep(groups []Group) {
	l.kept = append(l.kept, groups...)
	for i, a := range l.acts {
		l.acts[i].Over = a.Over || slices.Contains(groups, a.Group)
	}
}

// change completes an act, or ends it.
func (l *replay) change(r record) error {
	i, outstanding := l.find(r.Seq)
	switch {
	case !outstanding:
		return fmt.Errorf("act %d is not outstanding", r.Seq)
	case r.Verb == verbOver:
		l.acts[i].Over = true
	case len(r.Act) == 0:
		return fmt.Errorf("nothing is known of act %d", r.Seq)
	default:
		l.acts[i].Act = r.Act
	}
	return nil
}
