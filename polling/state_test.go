package polling

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// filled returns a state with as much as one can have.
func filled() state {
	s := state{Slow: &slowdown{Factor: 4, At: time.Date(2026, 11, 29, 7, 0, 0, 0, time.UTC)}}
	for kind := range 2 * maxKinds {
		for n := range 2 * maxSpans {
			s.add(fmt.Sprintf("%s %d", strings.Repeat("k", maxKindLength-10), kind), Span{maxDuration - time.Hour, maxDuration - time.Duration(n)*time.Second})
		}
	}
	return s
}

// TestState checks that a state can be read again, and that it does not grow for ever.
func TestState(t *testing.T) {
	s := filled()
	data, err := s.encode()
	if err != nil || len(data) > maxBytes {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	got, err := decode(data)
	if err != nil {
		t.Fatal(err)
	}
	s.Version = formatVersion
	if diff := cmp.Diff(s, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	last := s.Kinds[0]
	if len(s.Kinds) != maxKinds || len(last.Spans) != maxSpans || !strings.HasSuffix(last.Kind, fmt.Sprint(" ", 2*maxKinds-1)) {
		t.Errorf("%d kinds, the last with %d waits: %q", len(s.Kinds), len(last.Spans), last.Kind)
	}
	want := Span{maxDuration - time.Hour, maxDuration - (2*maxSpans-1)*time.Second}
	if spans := s.earlier(last.Kind); spans[0] != want {
		t.Errorf("the last wait took %v, not %v", spans[0], want)
	}
}

// line returns a line of a file with the right checksum.
func line(value string) string { return checksum([]byte(value)) + " " + value + "\n" }

// TestDamagedState checks that nothing of a damaged file is used, and which file is damaged.
func TestDamagedState(t *testing.T) {
	good := line(`{"version":1,"kinds":[{"kind":"volume","spans":[{"after_ms":1,"by_ms":2}]}]}`)
	for name, test := range map[string]struct {
		data string
		ok   bool
	}{
		"good":                     {good, true},
		"a rest of a longer line":  {good + "5}]}\n", true},
		"empty":                    {"", true},
		"cut off":                  {good[:len(good)-1], false},
		"a changed byte":           {strings.Replace(good, "volume", "Volume", 1), false},
		"zeros":                    {strings.Repeat("\x00", 100), false},
		"another version":          {line(`{"version":2}`), false},
		"no JSON":                  {line(`{"version":1`), false},
		"a negative time":          {line(`{"version":1,"kinds":[{"kind":"volume","spans":[{"after_ms":-1,"by_ms":2}]}]}`), false},
		"an end before the start":  {line(`{"version":1,"kinds":[{"kind":"volume","spans":[{"after_ms":3,"by_ms":2}]}]}`), false},
		"a time beyond all waits":  {line(`{"version":1,"kinds":[{"kind":"volume","spans":[{"after_ms":3,"by_ms":9000000000000000}]}]}`), false},
		"a kind without a name":    {line(`{"version":1,"kinds":[{"kind":"","spans":[]}]}`), false},
		"an unlimited slowdown":    {line(`{"version":1,"slow":{"factor":1000,"at":"2026-11-29T07:00:00Z"}}`), false},
		"a slowdown without limit": {line(`{"version":1,"slow":{"factor":1e999,"at":"2026-11-29T07:00:00Z"}}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := decode([]byte(test.data))
			if (err == nil) != test.ok {
				t.Errorf("error %v", err)
			}
			if err != nil && cmp.Diff(state{}, s) != "" {
				t.Errorf("used %+v", s)
			}
		})
	}
}

// FuzzDecode reads any file, with its own checksum and with the right one.
func FuzzDecode(f *testing.F) {
	var small state
	small.add("a", Span{time.Second, time.Minute})
	data, err := small.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"slow":{"factor":2,"at":"2026-11-29T07:00:00Z"},"kinds":[{"kind":"a","spans":[{"after_ms":1,"by_ms":2}]}]}`))
	f.Add([]byte(`{"version":1,"kinds":[{"kind":"\ufffd","spans":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, data := range [][]byte{data, []byte(line(string(data)))} {
			s, err := decode(data)
			if err != nil {
				continue
			}
			if err := s.check(); err != nil && len(data) > 0 {
				t.Errorf("read %+v: %v", s, err)
			}
			again, err := s.encode()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := decode(again); err != nil || s.Version != 0 && !sameState(s, got) {
				t.Errorf("%+v was read again as %+v, %v", s, got, err)
			}
			a := NewAim(first, patience, s.earlier("a"))
			if pause := a.First(); pause < 0 || pause > firstLook {
				t.Errorf("the first look is after %v", pause)
			}
		}
	})
}

// sameState reports whether two states are the same, whatever text their times were read from.
func sameState(a, b state) bool {
	one, _ := a.encode()
	other, _ := b.encode()
	return string(one) == string(other)
}
