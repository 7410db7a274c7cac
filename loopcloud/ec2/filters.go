package ec2

import (
	"slices"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// maxFilterValues is how many values the filters of a request may have.
const maxFilterValues = 200

// filter is Filter.N of a request: a thing passes if any of its values matches
// any of the filter's.
type filter struct {
	Name   string   `query:"Name,required"`
	Values []string `query:"Value"`
}

// attributes are the filters of an action: by name, the values that a thing has
// for it.
type attributes[T any] map[string]func(T) []string

// one makes an attribute that always has one value; an empty value is none.
func one[T any](value func(T) string) func(T) []string {
	return func(thing T) []string {
		if v := value(thing); v != "" {
			return []string{v}
		}
		return nil
	}
}

// each makes an attribute that has a value for each part of a thing.
func each[T, P any](parts func(T) []P, value func(P) string) func(T) []string {
	return func(thing T) []string {
		var out []string
		for _, part := range parts(thing) {
			if v := value(part); v != "" {
				out = append(out, v)
			}
		}
		return out
	}
}

// pick answers the things that pass all filters.
func pick[T any](filters []filter, known attributes[T], things []T) ([]T, error) {
	values := 0
	for _, f := range filters {
		of, err := known.of(f)
		if err != nil {
			return nil, err
		}
		if values += len(f.Values); values > maxFilterValues {
			return nil, query.Refuse("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
		}
		things = slices.DeleteFunc(things, func(thing T) bool { return !state.Match(f.Values, of(thing)...) })
	}
	return things, nil
}

// of finds the attribute that a filter is about. Those called "tag:" stand for
// one per tag key.
func (known attributes[T]) of(f filter) (func(T) []string, error) {
	if of, ok := known[f.Name]; ok && f.Name != anyTag {
		return of, f.check()
	}
	key, isTag := strings.CutPrefix(f.Name, anyTag)
	if of, ok := known[anyTag]; ok && isTag && key != "" {
		return tagged(of, key), f.check()
	}
	return nil, query.Refuse("InvalidParameterValue", "The filter '%s' is invalid", f.Name)
}

func (f filter) check() error {
	if len(f.Values) == 0 {
		return query.Refuse("InvalidParameterValue", "The filter '%s' must have a value", f.Name)
	}
	return nil
}

// anyTag is the name under which an attribute answers a thing's tags, each as
// key=value.
const anyTag = "tag:"

// tagged keeps the values of the tag with this key.
func tagged[T any](of func(T) []string, key string) func(T) []string {
	return func(thing T) []string {
		var out []string
		for _, pair := range of(thing) {
			if value, ok := strings.CutPrefix(pair, key+"="); ok {
				out = append(out, value)
			}
		}
		return out
	}
}

// withTags adds the filters tag:KEY and tag-key.
func (known attributes[T]) withTags(tags func(T) map[string]string) attributes[T] {
	known[anyTag] = func(thing T) []string {
		var pairs []string
		for key, value := range tags(thing) {
			pairs = append(pairs, key+"="+value)
		}
		return pairs
	}
	known["tag-key"] = func(thing T) []string {
		var keys []string
		for key := range tags(thing) {
			keys = append(keys, key)
		}
		return keys
	}
	return known
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// decimalOrNone is a number, none if it is zero.
func decimalOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return decimal(n)
}
