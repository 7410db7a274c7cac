package buildertest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// EveryOptionDecoded fails the test unless each option of a plugin, in a template that has no other
// option, sets the field with its tag, and no other field.
func EveryOptionDecoded(t *testing.T, plugin builder.Plugin) {
	t.Helper()
	fields := optionFields(reflect.TypeOf(plugin.Options()).Elem())
	if len(fields) == 0 {
		t.Error("the configuration has no options")
	}
	for _, set := range fields {
		for _, s := range samplesOf(set.of) {
			options := reflect.ValueOf(Decoded(t, plugin, map[string]any{set.option: s.give})).Elem()
			for _, field := range fields {
				want := reflect.Zero(field.of).Interface()
				if slices.Equal(field.index, set.index) {
					want = s.want.Interface()
				}
				if got := options.FieldByIndex(field.index).Interface(); !reflect.DeepEqual(got, want) {
					t.Errorf("%s = %v sets %s to %+v, want %+v", set.option, s.give, field.option, got, want)
				}
			}
		}
	}
}

// Decoded returns the options of a template as they are decoded, before they are checked.
func Decoded(t *testing.T, plugin builder.Plugin, give map[string]any) builder.Options {
	t.Helper()
	options := plugin.Options()
	job := options.Job()
	if _, err := builder.Decode(options, job.Config, job.Kind, nil, Wire(give)); err != nil {
		t.Errorf("%v is refused: %v", give, err)
	}
	return options
}

// optionField is a field of a struct that holds an option.
type optionField struct {
	option string
	index  []int
	of     reflect.Type
}

// optionFields returns the options of a struct and of this module's structs that it embeds.
func optionFields(of reflect.Type) []optionField {
	var all []optionField
	for i := range of.NumField() {
		field := of.Field(i)
		option, ok := field.Tag.Lookup("mapstructure")
		switch {
		case option == ",squash" && isOurs(field.Type):
			for _, inner := range optionFields(field.Type) {
				all = append(all, optionField{inner.option, append([]int{i}, inner.index...), inner.of})
			}
		case ok && option != ",squash":
			all = append(all, optionField{option, []int{i}, field.Type})
		}
	}
	return all
}

// isOurs reports whether a type is a struct of this module.
func isOurs(of reflect.Type) bool {
	return of.Kind() == reflect.Struct && strings.HasPrefix(of.PkgPath(), module)
}

// sample is a value of an option, in a template and in its field.
type sample struct {
	give any
	want reflect.Value
}

// samplesOf returns a value of a type, or for a block one value for each of its options.
func samplesOf(of reflect.Type) []sample {
	switch {
	case isOurs(of):
		return blocksOf(of)
	case of.Kind() == reflect.Slice && isOurs(of.Elem()):
		var all []sample
		for _, s := range blocksOf(of.Elem()) {
			all = append(all, sample{[]any{s.give}, reflect.Append(reflect.Zero(of), s.want)})
		}
		return all
	}
	give, want := valueOf(of)
	return []sample{{give, reflect.ValueOf(want).Convert(of)}}
}

// blocksOf returns a block for each option of its struct, with no other option.
func blocksOf(of reflect.Type) []sample {
	var all []sample
	for _, field := range optionFields(of) {
		for _, s := range samplesOf(field.of) {
			block := reflect.New(of).Elem()
			block.FieldByIndex(field.index).Set(s.want)
			all = append(all, sample{map[string]any{field.option: s.give}, block})
		}
	}
	return all
}

// valueOf returns a value of an option's type, in a template and decoded.
func valueOf(of reflect.Type) (give, want any) {
	switch reflect.Zero(of).Interface().(type) {
	case string:
		return "a text", "a text"
	case bool:
		return true, true
	case int, int64:
		return 7, 7
	case config.Trilean:
		return true, config.TriTrue
	case []string:
		return []any{"a", "b"}, []string{"a", "b"}
	case [][]string:
		return []any{[]any{"a", "b"}}, [][]string{{"a", "b"}}
	case map[string]string:
		return map[string]any{"a": "b"}, map[string]string{"a": "b"}
	case config.KeyValues:
		return []any{map[string]any{"key": "a", "value": "b"}}, config.KeyValues{{Key: "a", Value: "b"}}
	}
	panic(fmt.Sprintf("buildertest: valueOf has no value of the type %s", of))
}
