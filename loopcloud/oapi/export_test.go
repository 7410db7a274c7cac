package oapi

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Calls returns the names of all implemented calls.
func Calls() []string { return slices.Sorted(maps.Keys(actions)) }

// Parameters returns all parameters of a call, each with a sample value. A list has one element,
// and filters are empty.
func Parameters(call string) map[string]any {
	return sample(requestType(call)).(map[string]any)
}

// RequiredParameters returns the names of the required parameters of a call.
func RequiredParameters(call string) []string {
	var names []string
	for name, f := range fieldsOf(requestType(call)) {
		if f.Tag.Get("need") == "yes" {
			names = append(names, name)
		}
	}
	return names
}

func requestType(call string) reflect.Type { return reflect.TypeOf(actions[call].request()).Elem() }

// fieldsOf returns the fields of a request by the name of their parameter.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
			fields[name] = f
		}
	}
	return fields
}

// sample returns a value that the decoder accepts for a type.
func sample(t reflect.Type) any {
	switch t.Kind() {
	case reflect.Pointer:
		return sample(t.Elem())
	case reflect.Slice:
		return []any{sample(t.Elem())}
	case reflect.Struct:
		object := map[string]any{}
		for name, f := range fieldsOf(t) {
			object[name] = sample(f.Type)
		}
		return object
	case reflect.Map:
		return map[string]any{}
	case reflect.Bool:
		return true
	case reflect.Int64:
		return 1
	}
	return "x"
}
