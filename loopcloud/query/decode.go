package query

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// param is a node of the tree of parameter names, which are separated by dots: Filter.1.Value.2
// is the node 2 of the node Value of ….
type param struct {
	name  string // from the root
	value *string
	below map[string]*param
}

func (p *param) child(name string) *param {
	if p == nil {
		return nil
	}
	return p.below[name]
}

// tree returns the form as a tree.
func (f Form) tree() *param {
	root := &param{below: map[string]*param{}}
	for name, value := range f {
		at := root
		parts := strings.Split(name, ".")
		for i, part := range parts {
			if at.below[part] == nil {
				at.below[part] = &param{name: strings.Join(parts[:i+1], "."), below: map[string]*param{}}
			}
			at = at.below[part]
		}
		at.value = &value
	}
	return root
}

// Decode decodes the form into a struct and removes the decoded parameters from the form. The
// query tag of a field is the name of its parameter, and whether it is required:
//
//	VolumeID volumeID `query:"VolumeId,required"`
//
// A slice takes Name.1, Name.2, …; a struct takes Name.Field; a slice of structs takes
// Name.1.Field. A pointer distinguishes a missing parameter from an empty one. Embedded structs
// add their fields. A type with a Check method validates its own values.
//
// Decode returns an *Error with EC2's code for an invalid parameter, and for a parameter that no
// field takes.
func (f Form) Decode(into any) error {
	if err := f.fields(f.tree(), reflect.ValueOf(into).Elem()); err != nil {
		return err
	}
	return f.Done("UnknownParameter")
}

// fields decodes the parameters below p into the struct v.
func (f Form) fields(p *param, v reflect.Value) error {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.Anonymous {
			if err := f.fields(p, v.Field(i)); err != nil {
				return err
			}
			continue
		}
		name, option, _ := strings.Cut(field.Tag.Get("query"), ",")
		at := p.child(name)
		if option == "required" && at.isEmpty() {
			return Refuse("MissingParameter", "The request must contain the parameter %s", p.path(name))
		}
		if at == nil {
			continue
		}
		if err := f.value(at, v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *param) isEmpty() bool {
	return p == nil || len(p.below) == 0 && (p.value == nil || *p.value == "")
}

// path returns the full name of a parameter below p.
func (p *param) path(name string) string {
	return strings.TrimPrefix(p.name+"."+name, ".")
}

// value decodes a parameter into a field of any kind that Decode supports.
func (f Form) value(p *param, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Slice:
		return f.list(p, v)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return f.value(p, v.Elem())
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		return f.fields(p, v)
	case p.value == nil:
		return nil // only parameters below it, which remain in the form
	}
	delete(f, p.name)
	return assign(p.name, *p.value, v)
}

// list decodes Name.1, Name.2, … into a slice, in the order of the numbers.
func (f Form) list(p *param, v reflect.Value) error {
	var numbers []int
	for key := range p.below {
		if n, err := strconv.Atoi(key); err == nil && n > 0 && strconv.Itoa(n) == key {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	v.Set(reflect.MakeSlice(v.Type(), len(numbers), len(numbers)))
	for i, n := range numbers {
		if err := f.value(p.below[strconv.Itoa(n)], v.Index(i)); err != nil {
			return err
		}
	}
	return nil
}

// checker is a value that validates itself, such as an ID.
type checker interface{ Check() error }

// assign sets a field of a plain type to a parameter's text.
func assign(name, text string, v reflect.Value) error {
	var err error
	switch v.Interface().(type) {
	case bool:
		err = setBool(text, v)
	case int64:
		var n int64
		n, err = strconv.ParseInt(text, 10, 64)
		v.SetInt(n)
	case time.Time:
		var at time.Time
		at, err = time.Parse(time.RFC3339, text)
		v.Set(reflect.ValueOf(at))
	default:
		v.SetString(text)
	}
	if err != nil {
		return Refuse("InvalidParameterValue", "Invalid value '%s' for %s", text, name)
	}
	if c, ok := v.Interface().(checker); ok && text != "" {
		return c.Check()
	}
	return nil
}

// setBool accepts true and false in any case. Unlike strconv, it does not accept t, T and 1.
func setBool(text string, v reflect.Value) error {
	switch strings.ToLower(text) {
	case "true":
		v.SetBool(true)
	case "false":
		v.SetBool(false)
	default:
		return strconv.ErrSyntax
	}
	return nil
}
