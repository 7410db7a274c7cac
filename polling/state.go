package polling

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// The bounds of the file.
const (
	formatVersion = 1
	maxBytes      = 64 << 10
	maxKinds      = 48
	maxKindLength = 300
	// maxSpans is the number of waits of each kind.
	maxSpans = 6
	// maxDuration is the longest duration of a wait.
	maxDuration = 48 * time.Hour
)

// state is the content of the file.
type state struct {
	Version int `json:"version"`
	// Slow is nil if looks were never slowed down.
	Slow *slowdown `json:"slow,omitempty"`
	// Kinds holds the waits by their kinds, the last one first.
	Kinds []kindState `json:"kinds,omitempty"`
}

// kindState holds the durations of the waits of one kind, the last one first.
type kindState struct {
	Kind  string      `json:"kind"`
	Spans []spanState `json:"spans"`
}

// spanState is a Span in milliseconds.
type spanState struct {
	After int64 `json:"after_ms"`
	By    int64 `json:"by_ms"`
}

// castagnoli is the polynomial of the checksum.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// decode returns the content of a file: one line with a checksum and a value in JSON. Bytes after
// the line are left from a longer one. An error means that nothing of it can be used.
func decode(data []byte) (state, error) {
	if len(data) == 0 {
		return state{}, nil
	}
	line, _, whole := bytes.Cut(data, []byte("\n"))
	sum, value, parts := bytes.Cut(line, []byte(" "))
	if !whole || !parts || string(sum) != checksum(value) {
		return state{}, errors.New("its checksum is wrong")
	}
	var s state
	if err := json.Unmarshal(value, &s); err != nil {
		return state{}, err
	}
	if err := s.check(); err != nil {
		return state{}, err
	}
	return s, nil
}

func checksum(value []byte) string { return fmt.Sprintf("%08x", crc32.Checksum(value, castagnoli)) }

// check returns an error if a state cannot have been written by encode.
func (s state) check() error {
	if s.Version != formatVersion {
		return fmt.Errorf("its version is %d, not %d", s.Version, formatVersion)
	}
	if s.Slow != nil && !s.Slow.valid() {
		return fmt.Errorf("it slows looks down by a factor of %v", s.Slow.Factor)
	}
	if len(s.Kinds) > maxKinds {
		return fmt.Errorf("it has %d kinds of waits", len(s.Kinds))
	}
	for _, k := range s.Kinds {
		if err := k.check(); err != nil {
			return err
		}
	}
	return nil
}

func (k kindState) check() error {
	if k.Kind == "" || len(k.Kind) > maxKindLength || len(k.Spans) > maxSpans {
		return fmt.Errorf("it has %d waits of the kind %.40q", len(k.Spans), k.Kind)
	}
	for _, s := range k.Spans {
		if s.After < 0 || s.By < s.After || s.By > maxDuration.Milliseconds() {
			return fmt.Errorf("a wait of the kind %.40q took %d to %d ms", k.Kind, s.After, s.By)
		}
	}
	return nil
}

// encode returns the content of a file.
func (s state) encode() ([]byte, error) {
	s.Version = formatVersion
	value, err := json.Marshal(s)
	return fmt.Appendf(nil, "%s %s\n", checksum(value), value), err
}

// earlier returns the durations of the waits of a kind.
func (s state) earlier(kind string) []Span {
	var spans []Span
	for _, k := range s.Kinds {
		if k.Kind != kind {
			continue
		}
		for _, at := range k.Spans {
			spans = append(spans, Span{After: time.Duration(at.After) * time.Millisecond, By: time.Duration(at.By) * time.Millisecond})
		}
	}
	return spans
}

// add adds a wait. The oldest waits, and the kinds that were not used for longest, make room.
func (s *state) add(kind string, span Span) {
	k := kindState{Kind: kind}
	if i := slices.IndexFunc(s.Kinds, func(k kindState) bool { return k.Kind == kind }); i >= 0 {
		k = s.Kinds[i]
		s.Kinds = slices.Delete(s.Kinds, i, i+1)
	}
	ended := spanState{After: span.After.Milliseconds(), By: span.By.Milliseconds()}
	k.Spans = append([]spanState{ended}, k.Spans[:min(len(k.Spans), maxSpans-1)]...)
	s.Kinds = append([]kindState{k}, s.Kinds[:min(len(s.Kinds), maxKinds-1)]...)
}
