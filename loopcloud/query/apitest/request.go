package apitest

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
)

// Request returns an error if a request does not conform to the model. The form includes Action
// and Version.
func (m *Model) Request(form url.Values) error {
	c, err := m.call(form.Get("Version"), form.Get("Action"))
	if err != nil {
		return err
	}
	params := maps.Clone(form)
	params.Del("Action")
	params.Del("Version")
	if err := c.request(params); err != nil {
		return fmt.Errorf("request of %s: %w", c.name, err)
	}
	return nil
}

func (c *call) request(params url.Values) error {
	in := reflect.New(c.input)
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(params)) {
		values := params[name]
		if len(values) != 1 {
			wrong = append(wrong, fmt.Errorf("%s is given %d times", name, len(values)))
			continue
		}
		wrong = append(wrong, c.fill(in.Elem(), name, values[0]))
	}
	wrong = append(wrong, c.filters(params), c.limits.check(c.name, params))
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	written, err := c.form(c.strict, in) // which validates required members
	if err != nil {
		return err
	}
	return same(params, written)
}

// filters returns an error for a filter that the call's documentation does not list.
func (c *call) filters(params url.Values) error {
	var names []string
	for name := range params {
		if number(name) == "Filter.N.Name" {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil
	}
	known := c.docs.filters(c.name + "Input")
	if known == nil {
		return nil
	}
	var wrong []error
	for _, name := range names {
		if filter := params.Get(name); !known(filter) {
			wrong = append(wrong, fmt.Errorf("%s is %q, which is not a documented filter", name, filter))
		}
	}
	return errors.Join(wrong...)
}
