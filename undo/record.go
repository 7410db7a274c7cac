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

// FormatVersion is the version of the journals that this package writes. It grows
// with every change that an older program would misread.
const FormatVersion = 2

// ErrTorn is wrapped when a journal is damaged otherwise than by a crash of the
// machine: nothing that it says is acted on.
var ErrTorn = errors.New("the journal is damaged")

// ErrNewer is wrapped when a journal is of a later version than this program knows.
var ErrNewer = errors.New("the journal was written by a newer version")

// Header says whose journal it is.
type Header struct {
	// Version is that of the format.
	Version int `json:"version"`
	// Build is the id of the build, and Program what makes it, such as
	// amazon-chroot.
	Build   string `json:"build"`
	Program string `json:"program"`
	// Account, Region and Endpoint are where the build's things are in the cloud.
	Account  string `json:"account"`
	Region   string `json:"region"`
	Endpoint string `json:"endpoint,omitempty"`
	// Cloud is the identity of a cloud that tells one. Such a cloud is recognized by it,
	// and any other one by its Endpoint.
	Cloud string `json:"cloud,omitempty"`
	// Host is the virtual machine that the build runs on.
	Host string `json:"host"`
	// Start is when the build began.
	Start time.Time `json:"start"`
	// Boot is the kernel's boot_id at that time; Create knows it.
	Boot string `json:"boot,omitempty"`
}

// Pending is an act whose undoing is outstanding.
type Pending struct {
	// Seq counts the acts of a build, from 1 on.
	Seq uint64
	// Stack is the name of the stack that it belongs to.
	Stack string
	// Act is what is known of it, as it was armed or completed.
	Act json.RawMessage
	// At is when it was armed.
	At time.Time
}

// verb is what a record says.
type verb string

const (
	// verbBuild begins a journal.
	verbBuild verb = "build"
	// verbArmed is written before an act is begun.
	verbArmed verb = "armed"
	// verbKnown completes it.
	verbKnown verb = "known"
	// verbOver says that nothing of it is left to undo.
	verbOver verb = "over"
	// verbKept says it of all acts of some stacks at once.
	verbKept verb = "kept"
	// verbEnded says that the process ended by itself with acts outstanding: it was not
	// killed, so that none of its requests is under way. Since version 2.
	verbEnded verb = "ended"
)

// record is one line of a journal.
type record struct {
	Verb   verb            `json:"verb"`
	Header *Header         `json:"header,omitempty"`
	Seq    uint64          `json:"seq,omitempty"`
	Stack  string          `json:"stack,omitempty"`
	Stacks []string        `json:"stacks,omitempty"`
	Act    json.RawMessage `json:"act,omitempty"`
	At     time.Time       `json:"at,omitzero"`
}

// castagnoli is the polynomial of the checksums: the one that processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is the record as it is written: a checksum in eight hexadecimal digits, a
// space, JSON, and a line feed. JSON holds no line feed of its own.
func (r record) line() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

// readLine reads what line wrote, without the line feed. What it does not know is
// an error, unless it is lenient.
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

// ledger is what the records of a journal come to.
type ledger struct {
	header  Header
	pending []Pending
	// acts are all that were armed, as far as they are known, what is over included.
	acts []Pending
	last uint64
	// kept are the stacks of which nothing is to be undone.
	kept []string
	// ended says that the build was not killed.
	ended bool
}

// decode reads a journal in a boot of the machine, and answers how many of its bytes are
// records: what a crash of the machine has left behind them counts as not written. In the
// boot that the journal was begun in there was none. An error wraps ErrTorn or ErrNewer,
// and what could be read of the header comes with it.
func decode(text []byte, boot string) (l ledger, size int, err error) {
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

// crashed says whether the machine may have crashed since the journal was begun.
func (l ledger) crashed(boot string) bool {
	return l.header.Boot != "" && boot != "" && l.header.Boot != boot
}

// unwritten says whether the end of a journal is what a crash leaves of records that
// were on their way to the disk: a line that is cut short, or that has zeros where
// nothing was written, and no record after it. Nobody relied on these records: who
// does has them synced first, and everything before them with them.
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

// take reads a line and does what it says. A newer version can only be told from
// damage if its first line is read without looking at what else it holds.
func (l *ledger) take(line []byte, first bool) error {
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

func (l *ledger) begin(r record) error {
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

func (l *ledger) apply(r record) error {
	switch r.Verb {
	case verbArmed:
		if r.Seq <= l.last || r.Stack == "" || len(r.Act) == 0 {
			return fmt.Errorf("act %d cannot follow act %d", r.Seq, l.last)
		}
		l.last = r.Seq
		p := Pending{Seq: r.Seq, Stack: r.Stack, Act: r.Act, At: r.At}
		l.pending, l.acts = append(l.pending, p), append(l.acts, p)
		return nil
	case verbKept:
		l.kept = append(l.kept, r.Stacks...)
		l.pending = slices.DeleteFunc(l.pending, func(p Pending) bool { return slices.Contains(r.Stacks, p.Stack) })
		return nil
	case verbEnded:
		l.ended = true
		return nil
	case verbKnown, verbOver:
		return l.change(r)
	}
	return fmt.Errorf("it says %q, which means nothing here", r.Verb)
}

// change completes an act, or ends it.
func (l *ledger) change(r record) error {
	i := slices.IndexFunc(l.pending, func(p Pending) bool { return p.Seq == r.Seq })
	switch {
	case i < 0:
		return fmt.Errorf("act %d is not outstanding", r.Seq)
	case r.Verb == verbOver:
		l.pending = slices.Delete(l.pending, i, i+1)
	case len(r.Act) == 0:
		return fmt.Errorf("nothing is known of act %d", r.Seq)
	default:
		l.pending[i].Act = r.Act
		at := slices.IndexFunc(l.acts, func(p Pending) bool { return p.Seq == r.Seq })
		l.acts[at].Act = r.Act
	}
	return nil
}
