package builder

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"
	"github.com/zclconf/go-cty/cty"
)

// checkEarly checks the templates of the options that are rendered when they are
// decoded, which is when no field is known: one would be rendered as "<no value>".
func checkEarly(raws []any, later []string, ictx *interpolate.Context) []error {
	var errs []error
	for _, raw := range raws {
		eachString("", raw, func(option, text string) {
			name, _, _ := strings.Cut(placeInList.ReplaceAllString(option, ""), ".")
			if literal(text) || strings.HasPrefix(name, "packer_") || slices.Contains(later, name) {
				return
			}
			if err := checkTemplate(option, text, ictx); err != nil {
				errs = append(errs, err)
			}
		})
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

// named returns a value with names as the keys of its maps. Packer's RPC delivers maps
// with keys of type any, which the decoder accepts but cannot name in its errors.
func named(value any) any {
	switch value := value.(type) {
	case map[any]any:
		options := make(map[string]any, len(value))
		for name, v := range value {
			options[fmt.Sprint(name)] = named(v)
		}
		return options
	case map[string]any:
		options := make(map[string]any, len(value))
		for name, v := range value {
			options[name] = named(v)
		}
		return options
	case []any:
		list := make([]any, len(value))
		for i, v := range value {
			list[i] = named(v)
		}
		return list
	}
	return value
}

// checkWhole refuses fractions in a JSON template: no option takes one, and the decoder
// would cut it off.
func checkWhole(raws []any, known hcldec.ObjectSpec) []error {
	var errs []error
	for _, raw := range raws {
		options, _ := raw.(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(options)) {
			errs = append(errs, whole(name, options[name], known[name])...)
		}
	}
	return errs
}

// whole does it for one option.
func whole(option string, value any, spec hcldec.Spec) []error {
	var errs []error
	switch value := value.(type) {
	case float64:
		if attr, ok := spec.(*hcldec.AttrSpec); ok && attr.Type == cty.Number && value != math.Trunc(value) {
			return []error{fmt.Errorf("%s must be a whole number, and is %v", option, value)}
		}
	case []any:
		for i, v := range value {
			errs = append(errs, whole(entry(option, i), v, spec)...)
		}
	case map[string]any:
		for name, v := range value {
			errs = append(errs, whole(option+"."+name, v, nested(spec)[name])...)
		}
	}
	return errs
}

// eachString calls with for every string in Packer's options, with the name of its option.
func eachString(option string, value any, with func(option, text string)) {
	below := func(name string) string { return strings.TrimPrefix(option+"."+name, ".") }
	switch value := value.(type) {
	case string:
		with(option, value)
	case map[string]any:
		for name, v := range value {
			eachString(below(name), v, with)
		}
	case []any:
		for i, v := range value {
			eachString(entry(option, i), v, with)
		}
	case cty.Value:
		eachStringOf(option, value, with)
	}
}

// eachStringOf does the same for a value of HCL2.
func eachStringOf(option string, value cty.Value, with func(option, text string)) {
	switch {
	case value.IsNull() || !value.IsKnown():
	case value.Type() == cty.String:
		with(option, value.AsString())
	case value.CanIterateElements():
		for it := value.ElementIterator(); it.Next(); {
			key, v := it.Element()
			name := option
			switch {
			case key.Type() == cty.String:
				name = strings.TrimPrefix(option+"."+key.AsString(), ".")
			case key.Type() == cty.Number:
				n, _ := key.AsBigFloat().Int64()
				name = entry(option, int(n))
			}
			eachStringOf(name, v, with)
		}
	}
}
