package builder

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/hashicorp/hcl/v2/hcldec"
	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"
	"github.com/hashicorp/packer-plugin-sdk/template/config"
	"github.com/hashicorp/packer-plugin-sdk/template/interpolate"
)

// Decode reads Packer's options into target, of which common is a part, and renders all but those
// of late and the common ones that are rendered later. After an unknown option the others are
// decoded all the same: then usable is true, and their errors can be returned together.
func Decode(target any, common *Config, kind Kind, late []string, raws ...any) (usable bool, err error) {
	ictx := interpolate.Context{Funcs: template.FuncMap{"clean_resource_name": kind.cleanName}}
	raws, _ = named(raws).([]any)
	later := slices.Concat(lateOptions, tagOptions, late)
	if errs := append(checkEarly(raws, later, &ictx), checkWhole(raws, specOf(target))...); len(errs) > 0 {
		return false, errors.Join(errs...)
	}
	err = config.Decode(target, &config.DecodeOpts{
		PluginType:         kind.ID,
		Interpolate:        true,
		InterpolateContext: &ictx,
		InterpolateFilter:  &interpolate.RenderFilter{Exclude: later},
	}, raws...)
	common.ictx = ictx
	return err == nil || unknownOptions(err), plain(err, specOf(target))
}

// unknownOptions reports whether an error of config.Decode is about unknown options:
// it is the only one that is a go-multierror, which is not worth a dependency to name
// it.
func unknownOptions(err error) bool {
	var multi interface {
		ErrorOrNil() error
		WrappedErrors() []error
	}
	return errors.As(err, &multi)
}

// Join makes one error of many for Packer to print, and nil of none. Errors that hold
// several are opened, and none is there twice.
func Join(errs []error) error {
	var all *packersdk.MultiError
	said := map[string]bool{}
	for _, err := range opened(errs) {
		if !said[err.Error()] {
			all = packersdk.MultiErrorAppend(all, err)
		}
		said[err.Error()] = true
	}
	if all == nil {
		return nil
	}
	return all
}

// opened returns the errors, with joined errors replaced by their parts.
func opened(errs []error) []error {
	var all []error
	for _, err := range errs {
		if err == nil {
			continue
		}
		if parts := parts(err); parts != nil {
			all = append(all, opened(parts)...)
		} else {
			all = append(all, err)
		}
	}
	return all
}

// parts returns the errors that one holds and says nothing of its own about.
func parts(err error) []error {
	switch several := err.(type) { //nolint:errorlint // what wraps them has words of its own
	case interface{ WrappedErrors() []error }:
		return several.WrappedErrors()
	case interface{ Unwrap() []error }:
		parts := several.Unwrap()
		if err.Error() == errors.Join(parts...).Error() {
			return parts
		}
	}
	return nil
}

// specOf returns the options that a configuration has.
func specOf(target any) hcldec.ObjectSpec {
	flat, ok := target.(interface {
		FlatMapstructure() interface{ HCL2Spec() map[string]hcldec.Spec }
	})
	if !ok {
		return nil
	}
	return flat.FlatMapstructure().HCL2Spec()
}

// plain rewrites an error of config.Decode for users, without Go's types.
func plain(err error, known hcldec.ObjectSpec) error {
	if err == nil {
		return nil
	}
	var worded []error
	for _, one := range opened([]error{err}) {
		worded = append(worded, errors.New(plainly(one.Error(), known)))
	}
	return errors.Join(worded...)
}

// The messages of config.Decode and of the decoder below it.
var (
	unconvertible = regexp.MustCompile(`(?s)^'([^']+)' expected type '([^']+)', got unconvertible type '([^']+)', value: '(.*)'$`)
	unparsable    = regexp.MustCompile(`(?s)^cannot parse '([^']+)' as (\w+): .*parsing (".*"): `)
	noTrilean     = regexp.MustCompile(`(?s)^error decoding '([^']+)': Error parsing (bool) from given var: .*parsing (".*"): `)
	noMap         = regexp.MustCompile(`^'([^']+)' expected a (map), got '([^']+)'$`)
	noList        = regexp.MustCompile(`^'([^']+)': source data must be an array or (slice), got (.+)$`)
	unknown       = regexp.MustCompile(`^unknown configuration key: '"(.+)"'$`)
	noHCL         = regexp.MustCompile(`(?s)^(.+): \[\{\{\} (\w+)\}.*\]$`)
	noTemplate    = regexp.MustCompile(`(?s)^(?:render|invalid) '([^']+)': (.*?) in:\n`)
)

// plainly words one message.
func plainly(text string, known hcldec.ObjectSpec) string {
	if m := unknown.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s is not an option%s", m[1], suggestion(m[1], known))
	}
	if m := unconvertible.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s must be %s, and is %s", m[1], wanted(m[2]), found(m[3], m[4]))
	}
	for _, form := range []*regexp.Regexp{unparsable, noTrilean} {
		if m := form.FindStringSubmatch(text); m != nil {
			return fmt.Sprintf("%s must be %s, and is %s", m[1], wanted(m[2]), m[3])
		}
	}
	for _, form := range []*regexp.Regexp{noMap, noList} {
		if m := form.FindStringSubmatch(text); m != nil {
			return fmt.Sprintf("%s must be %s, and is %s", m[1], wanted(m[2]), found(m[3], ""))
		}
	}
	if m := noHCL.FindStringSubmatch(text); m != nil {
		if strings.HasPrefix(m[1], "value must be a whole number") {
			return m[2] + " must be a whole number, and is none"
		}
		return fmt.Sprintf("%s: %s", m[2], m[1])
	}
	if m := noTemplate.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%s is not a template that can be rendered: %s", m[1], m[2])
	}
	return text
}

// wanted names a type of an option.
func wanted(goType string) string {
	switch {
	case strings.HasPrefix(goType, "map"):
		return "a map"
	case strings.HasPrefix(goType, "[]"), goType == "slice":
		return "a list"
	case strings.Contains(goType, "int"):
		return "a whole number"
	case goType == "float", strings.HasPrefix(goType, "float"):
		return "a number"
	case goType == "bool", strings.HasSuffix(goType, "Trilean"):
		return "true or false"
	case goType == "string":
		return "a string"
	}
	return "a block"
}

// found names the value that a template has in place of another type. A list or a map may hold
// secrets, and is not shown.
func found(goType, value string) string {
	switch word := wanted(goType); word {
	case "a map", "a list", "a block":
		return word
	case "a string":
		if value == "" {
			return word
		}
		return fmt.Sprintf("%q", value)
	default:
		if value == "" {
			return word
		}
		return value
	}
}

var placeInList = regexp.MustCompile(`\[[^]]*\]`)

// suggestion returns the option that an unknown one may have been meant for, in words.
func suggestion(option string, known hcldec.ObjectSpec) string {
	path := strings.Split(placeInList.ReplaceAllString(option, ""), ".")
	for _, block := range path[:len(path)-1] {
		known = nested(known[block])
	}
	name := path[len(path)-1]
	best, least := "", max(2, len(name)/3)+1
	for other := range known {
		if d := distance(name, other); d < least || d == least && other < best {
			best, least = other, d
		}
	}
	if best == "" || strings.HasPrefix(best, "packer_") {
		return ""
	}
	return ": did you mean " + best + "?"
}

// nested returns the options of a block.
func nested(spec hcldec.Spec) hcldec.ObjectSpec {
	switch block := spec.(type) {
	case *hcldec.BlockListSpec:
		spec = block.Nested
	case *hcldec.BlockSpec:
		spec = block.Nested
	}
	object, _ := spec.(hcldec.ObjectSpec)
	return object
}

// distance returns how many letters must be inserted, removed or replaced to make b of
// a (Levenshtein's distance).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
