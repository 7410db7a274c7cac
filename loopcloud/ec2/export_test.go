package ec2

import (
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Actions returns the names of all implemented actions.
func Actions() []string { return slices.Sorted(maps.Keys(actions)) }

// Parameters returns all parameters of an action, each with a sample value. A list has one
// element.
func Parameters(action string) url.Values {
	return sampleForm(action, func(bool) bool { return true })
}

// RequiredParameters returns the required parameters of an action, each with a sample value.
func RequiredParameters(action string) url.Values {
	return sampleForm(action, func(required bool) bool { return required })
}

// sampleForm returns the parameters of an action that are wanted.
func sampleForm(action string, wanted func(required bool) bool) url.Values {
	form := url.Values{}
	addFields(form, "", reflect.TypeOf(actions[action].input()).Elem(), wanted)
	return form
}

func addFields(form url.Values, prefix string, t reflect.Type, wanted func(required bool) bool) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, option, _ := strings.Cut(f.Tag.Get("query"), ",")
		if f.Anonymous {
			addFields(form, prefix, f.Type, wanted)
		} else if wanted(option == "required") {
			addValue(form, prefix+name, f.Type, wanted)
		}
	}
}

func addValue(form url.Values, name string, t reflect.Type, wanted func(required bool) bool) {
	switch {
	case t.Kind() == reflect.Pointer:
		addValue(form, name, t.Elem(), wanted)
	case t.Kind() == reflect.Slice:
		addValue(form, name+".1", t.Elem(), wanted)
	case t.Kind() == reflect.Struct && t != reflect.TypeFor[time.Time]():
		addFields(form, name+".", t, wanted)
	default:
		form.Set(name, sample(t))
	}
}

// sample returns a value that the decoder accepts for a type. No resource has a sample ID.
func sample(t reflect.Type) string {
	switch reflect.Zero(t).Interface().(type) {
	case volumeID, snapshotSource:
		return "vol-00000000"
	case snapshotID:
		return "snap-00000000"
	case imageID:
		return "ami-00000000"
	case instanceID:
		return "i-00000000"
	case bool:
		return "true"
	case int64:
		return "1"
	case time.Time:
		return "2027-01-01T00:00:00Z"
	}
	return "x"
}
