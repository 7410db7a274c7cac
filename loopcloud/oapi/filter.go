package oapi

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// filters is the parameter Filters of a reading call.
type filters map[string]json.RawMessage

// property is what one filter looks at in a thing, in the words of the wire.
type property[T any] struct {
	kind kind
	of   func(T) []string
}

// kind is how a filter's value is written, and how it matches.
type kind int

const (
	text      kind = iota // a list of strings
	wild                  // the same, where * stands for anything
	ids                   // the same, and ids
	number                // a list of integers
	truth                 // a boolean
	date                  // a list of dates, or times
	notBefore             // a date or time
	notAfter              // a date or time
)

// select answers those things that all filters hold for.
func selected[T any](all []T, given filters, known map[string]property[T]) ([]T, error) {
	out := all
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p, ok := known[name]
		if !ok {
			return nil, unknownParam.with("there is no filter %s", name)
		}
		want, err := p.kind.decode(given[name], below("Filters", name))
		if err != nil {
			return nil, err
		}
		out = slices.DeleteFunc(slices.Clone(out), func(thing T) bool { return !p.kind.match(want, p.of(thing)) })
	}
	return out, nil
}

// decode reads the values of a filter as they are to be compared.
func (k kind) decode(raw json.RawMessage, name string) ([]string, error) {
	switch k {
	case number:
		return decodeTo(raw, name, func(n int64) (string, error) { return strconv.FormatInt(n, 10), nil })
	case truth:
		return decodeOne(raw, name, func(b bool) (string, error) { return strconv.FormatBool(b), nil })
	case ids:
		return decodeTo(raw, name, func(id string) (string, error) { return id, checkID("", id) })
	case date:
		return decodeTo(raw, name, func(s string) (string, error) { return parseDate(s, name) })
	case notBefore, notAfter:
		return decodeOne(raw, name, func(s string) (string, error) { return parseDate(s, name) })
	}
	return decodeTo(raw, name, func(s string) (string, error) { return s, nil })
}

func decodeTo[V any](raw json.RawMessage, name string, convert func(V) (string, error)) ([]string, error) {
	var values []V
	if err := decodeValue(raw, name, reflect.ValueOf(&values).Elem()); err != nil {
		return nil, err
	}
	out := make([]string, len(values))
	for i, v := range values {
		var err error
		if out[i], err = convert(v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func decodeOne[V any](raw json.RawMessage, name string, convert func(V) (string, error)) ([]string, error) {
	return decodeTo(json.RawMessage("["+string(raw)+"]"), name, convert)
}

// match tells whether any value is what is wanted.
func (k kind) match(want, have []string) bool {
	return slices.ContainsFunc(have, func(h string) bool {
		return slices.ContainsFunc(want, func(w string) bool {
			switch k {
			case wild:
				return state.Match([]string{w}, h)
			case date:
				return h == w || len(w) == len(time.DateOnly) && len(h) > len(w) && h[:len(w)] == w
			case notBefore:
				return h >= w
			case notAfter:
				return h <= w
			}
			return h == w
		})
	})
}

// timeFormat is how the API writes times. Of two times in it the later one is
// the greater string.
const timeFormat = "2006-01-02T15:04:05.000Z"

func wireTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// parseDate reads a date, or a time, which it writes as the API does.
func parseDate(s, name string) (string, error) {
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return s, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return "", badValue.with("the value %q of the parameter %s is no date", s, name)
	}
	return wireTime(t), nil
}

// one is the values of a property that has one value, none if it is empty.
func one[T any](of func(T) string) func(T) []string {
	return func(thing T) []string {
		if s := of(thing); s != "" {
			return []string{s}
		}
		return nil
	}
}

func flag[T any](of func(T) bool) func(T) []string {
	return func(thing T) []string { return []string{strconv.FormatBool(of(thing))} }
}

func integer[T any](of func(T) int64) func(T) []string {
	return func(thing T) []string { return []string{strconv.FormatInt(of(thing), 10)} }
}

// each is the values of a property that a thing has several times.
func each[T, P any](parts func(T) []P, of func(P) string) func(T) []string {
	return func(thing T) []string {
		var out []string
		for _, p := range parts(thing) {
			if s := of(p); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
}

// withTags adds the filters of everything that has tags.
func withTags[T any](tags func(T) []tag, known map[string]property[T]) map[string]property[T] {
	known["Tags"] = property[T]{text, each(tags, func(t tag) string { return t.Key + "=" + t.Value })}
	known["TagKeys"] = property[T]{text, each(tags, func(t tag) string { return t.Key })}
	known["TagValues"] = property[T]{text, func(thing T) []string {
		var values []string
		for _, t := range tags(thing) {
			values = append(values, t.Value)
		}
		return values
	}}
	return known
}
