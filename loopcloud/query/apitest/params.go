package apitest

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// param is one parameter: its path in the input, and its type.
type param struct {
	path []step
	typ  reflect.Type
	// set are the documented values of a string without an enumeration.
	set []string
}

// step leads from a value to a field or to the elements of a list.
type step struct {
	field   int
	element bool
}

// Types that are leaves although they have fields.
var (
	timeType = reflect.TypeFor[time.Time]()
	blobType = reflect.TypeFor[[]byte]()
)

// learn finds the name of every parameter by serializing an input in which only that parameter is
// set.
func (c *call) learn() (map[string]param, error) {
	none, err := c.form(c.lenient, reflect.New(c.input))
	if err != nil {
		return nil, err
	}
	params := map[string]param{}
	for _, p := range c.leaves(c.input, nil, nil) {
		in := reflect.New(c.input)
		if err := assign(at(in.Elem(), p.path, nil), sample(p.typ)); err != nil {
			return nil, err
		}
		form, err := c.form(c.lenient, in)
		if err != nil {
			return nil, err
		}
		for name, values := range form {
			if !slices.Equal(none[name], values) {
				params[number(name)] = p
			}
		}
	}
	return params, nil
}

// leaves returns the plain values below a type. A recursive type ends a path.
func (c *call) leaves(t reflect.Type, path []step, within []reflect.Type) []param {
	switch {
	case t.Kind() == reflect.Pointer:
		return c.leaves(t.Elem(), path, within)
	case t == blobType || t == timeType:
	case t.Kind() == reflect.Slice:
		return c.leaves(t.Elem(), append(slices.Clone(path), step{element: true}), within)
	case t.Kind() == reflect.Struct:
		if slices.Contains(within, t) {
			return nil
		}
		return c.fields(t, path, append(slices.Clone(within), t))
	}
	return []param{{path: path, typ: t}}
}

func (c *call) fields(t reflect.Type, path []step, within []reflect.Type) []param {
	var all []param
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			continue
		}
		below := c.leaves(f.Type, append(slices.Clone(path), step{field: i}), within)
		if len(below) == 1 && below[0].typ.Kind() == reflect.String {
			below[0].set = c.docs.set(t.Name(), f.Name)
		}
		all = append(all, below...)
	}
	return all
}

// at returns the value at a path, and creates missing values on the way. The numbers are those of
// list elements, in their order, from 1 on; the default is 1.
func at(v reflect.Value, path []step, numbers []int) reflect.Value {
	for _, s := range path {
		v = made(v)
		if !s.element {
			v = v.Field(s.field)
			continue
		}
		n := 1
		if len(numbers) > 0 {
			n, numbers = numbers[0], numbers[1:]
		}
		for v.Len() < n {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		}
		v = v.Index(n - 1)
	}
	return made(v)
}

// made dereferences a pointer, and creates its value if it is nil.
func made(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

// sample returns the text of some value of a type.
func sample(t reflect.Type) string {
	switch {
	case t == timeType:
		return "2001-02-03T04:05:06Z"
	case t == blobType || t.Kind() == reflect.String:
		return "x"
	case t.Kind() == reflect.Bool:
		return "true"
	}
	return "7"
}

// assign sets a value from its text.
func assign(v reflect.Value, text string) error {
	switch v.Type() {
	case timeType:
		at, err := time.Parse(time.RFC3339, text)
		v.Set(reflect.ValueOf(at))
		return err
	case blobType:
		v.SetBytes([]byte(text))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is not true or false", text)
		}
		v.SetBool(text == "true")
		return nil
	case reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(f)
		return err
	}
	return fmt.Errorf("a parameter of the type %s", v.Type())
}

// enumeration returns the values of an enumeration.
func enumeration(v reflect.Value) []string {
	values := v.MethodByName("Values")
	if v.Kind() != reflect.String || !values.IsValid() {
		return nil
	}
	var all []string
	list := values.Call(nil)[0]
	for i := range list.Len() {
		all = append(all, list.Index(i).String())
	}
	return all
}

// numbersOf returns the numbers among the parts of a name.
func numbersOf(name string) []int {
	var all []int
	for part := range strings.SplitSeq(name, ".") {
		if n, err := strconv.Atoi(part); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// maxList is larger than any list in a request.
const maxList = 10_000

// fill sets a parameter of an input.
func (c *call) fill(in reflect.Value, name, text string) error {
	p, ok := c.params[number(name)]
	if !ok {
		return fmt.Errorf("the call has no parameter %s", name)
	}
	numbers := numbersOf(name)
	for _, n := range numbers {
		if n < 1 || n > maxList {
			return fmt.Errorf("%s: a list begins at 1", name)
		}
	}
	v := at(in, p.path, numbers)
	if err := assign(v, text); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	allowed := enumeration(v)
	if allowed == nil {
		allowed = p.set
	}
	if allowed != nil && !slices.Contains(allowed, text) {
		return fmt.Errorf("%s is %q, and may be one of %q", name, text, allowed)
	}
	return nil
}

// same returns an error for a parameter that the SDK serializes differently. A token that the SDK
// adds is empty here.
func same(sent, ours url.Values) error {
	for name, values := range ours {
		if _, given := sent[name]; !given && slices.Equal(values, []string{""}) {
			continue
		}
		if !slices.Equal(sent[name], values) {
			return fmt.Errorf("%s is sent as %q, and is written %q", name, sent[name], values)
		}
	}
	return nil
}
