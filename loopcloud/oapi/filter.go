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

// filters is the parameter Filters of a call that lists resources. The type of a value depends
// on the filter: see filterKind.
type filters map[string]json.RawMessage

// filter compares a property of a resource with the values of a filter.
type filter[T any] struct {
	kind filterKind
	// of returns the values of the property, as the API encodes them.
	of func(T) []string
}

// filterKind is the type of a filter's value and the way it is compared.
type filterKind int

const (
	text      filterKind = iota // a list of strings
	pattern                     // a list of strings in which * matches any characters
	ids                         // a list of IDs
	number                      // a list of integers
	boolean                     // a boolean
	date                        // a list of dates or times
	notBefore                   // a date or time
	notAfter                    // a date or time
)

// selectBy returns the resources that all filters match. A filter that is null is absent.
func selectBy[T any](given filters, known map[string]filter[T], all []T) ([]T, error) {
	out := all
	for _, name := range slices.Sorted(maps.Keys(given)) {
		f, ok := known[name]
		if !ok {
			return nil, unknownParam.with("there is no filter %s", name)
		}
		if isNull(given[name]) {
			continue
		}
		want, err := f.kind.decode(given[name], below("Filters", name))
		if err != nil {
			return nil, err
		}
		out = slices.DeleteFunc(slices.Clone(out), func(resource T) bool { return !f.kind.match(want, f.of(resource)) })
	}
	return out, nil
}

// decode returns the values of a filter as strings to compare.
func (k filterKind) decode(raw json.RawMessage, name string) ([]string, error) {
	switch k {
	case number:
		return decodeTo(raw, name, func(n int64) (string, error) { return strconv.FormatInt(n, 10), nil })
	case boolean:
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

// match reports whether any of the values that a resource has matches any that the filter wants.
func (k filterKind) match(want, have []string) bool {
	return slices.ContainsFunc(have, func(h string) bool {
		return slices.ContainsFunc(want, func(w string) bool {
			switch k {
			case pattern:
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

// timeFormat is the API's format of times. Times in it sort as strings.
const timeFormat = "2006-01-02T15:04:05.000Z"

func wireTime(t time.Time) string { return t.UTC().Format(timeFormat) }

// parseDate checks a date or time. It returns a time in the API's format.
func parseDate(s, name string) (string, error) {
	if _, err := time.Parse(time.DateOnly, s); err == nil {
		return s, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return "", badValue.with("the value %q of the parameter %s is not a date", s, name)
	}
	return wireTime(t), nil
}

// one returns the values of a property with one value. An empty value is none.
func one[T any](of func(T) string) func(T) []string {
	return func(resource T) []string {
		if s := of(resource); s != "" {
			return []string{s}
		}
		return nil
	}
}

// flag returns the values of a boolean property.
func flag[T any](of func(T) bool) func(T) []string {
	return func(resource T) []string { return []string{strconv.FormatBool(of(resource))} }
}

// integer returns the values of an integer property.
func integer[T any](of func(T) int64) func(T) []string {
	return func(resource T) []string { return []string{strconv.FormatInt(of(resource), 10)} }
}

// each returns the values of a property that every part of a resource has. Empty values are
// left out.
func each[T, P any](parts func(T) []P, of func(P) string) func(T) []string {
	return func(resource T) []string {
		var out []string
		for _, p := range parts(resource) {
			if s := of(p); s != "" {
				out = append(out, s)
			}
		}
		return out
	}
}

// withTags adds the filters of resources with tags.
func withTags[T any](tags func(T) []tag, known map[string]filter[T]) map[string]filter[T] {
	known["Tags"] = filter[T]{text, each(tags, func(t tag) string { return t.Key + "=" + t.Value })}
	known["TagKeys"] = filter[T]{text, each(tags, func(t tag) string { return t.Key })}
	known["TagValues"] = filter[T]{text, func(resource T) []string {
		var values []string
		for _, t := range tags(resource) {
			values = append(values, t.Value)
		}
		return values
	}}
	return known
}
