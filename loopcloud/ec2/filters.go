package ec2

import (
	"slices"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// maxFilterValues is the largest number of values in the filters of a request.
const maxFilterValues = 200

// filter is Filter.N of a request. It matches a resource if any value of the resource's attribute
// matches any value of the filter.
type filter struct {
	Name   string   `query:"Name,required"`
	Values []string `query:"Value"`
}

// attributes are the filters of an action: by name, a function that returns a resource's values.
type attributes[T any] map[string]func(T) []string

// one returns an attribute with one value. An empty value is none.
func one[T any](value func(T) string) func(T) []string {
	return func(resource T) []string {
		if v := value(resource); v != "" {
			return []string{v}
		}
		return nil
	}
}

// each returns an attribute with a value for each part of a resource.
func each[T, P any](parts func(T) []P, value func(P) string) func(T) []string {
	return func(resource T) []string {
		var out []string
		for _, part := range parts(resource) {
			if v := value(part); v != "" {
				out = append(out, v)
			}
		}
		return out
	}
}

// pick returns the resources that all filters match.
func pick[T any](filters []filter, known attributes[T], resources []T) ([]T, error) {
	values := 0
	for _, f := range filters {
		of, err := known.of(f)
		if err != nil {
			return nil, err
		}
		if values += len(f.Values); values > maxFilterValues {
			return nil, query.Refuse("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
		}
		resources = slices.DeleteFunc(resources, func(resource T) bool { return !state.Match(f.Values, of(resource)...) })
	}
	return resources, nil
}

// of returns the attribute of a filter. The attribute "tag:" serves all filters tag:KEY.
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

// anyTag is the name of the attribute that returns a resource's tags, each as key=value.
const anyTag = "tag:"

// tagged returns the values of the tag with this key.
func tagged[T any](of func(T) []string, key string) func(T) []string {
	return func(resource T) []string {
		var out []string
		for _, pair := range of(resource) {
			if value, ok := strings.CutPrefix(pair, key+"="); ok {
				out = append(out, value)
			}
		}
		return out
	}
}

// withTags adds the filters tag:KEY and tag-key.
func (known attributes[T]) withTags(tags func(T) map[string]string) attributes[T] {
	known[anyTag] = func(resource T) []string {
		var pairs []string
		for key, value := range tags(resource) {
			pairs = append(pairs, key+"="+value)
		}
		return pairs
	}
	known["tag-key"] = func(resource T) []string {
		var keys []string
		for key := range tags(resource) {
			keys = append(keys, key)
		}
		return keys
	}
	return known
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// decimalOrNone returns a number as text, "" if it is zero.
func decimalOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return decimal(n)
}
