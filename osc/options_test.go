package osc

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// optionsOf lists the options of a flat configuration, and of the blocks in it.
func optionsOf(t reflect.Type) []string {
	var all []string
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("mapstructure")
		if strings.HasPrefix(name, "packer_") {
			continue
		}
		all = append(all, name)
		block := f.Type
		for block.Kind() == reflect.Pointer || block.Kind() == reflect.Slice {
			block = block.Elem()
		}
		if block.Kind() == reflect.Struct && block.PkgPath() == t.PkgPath() && !strings.HasPrefix(name, "ami_") {
			for _, inner := range optionsOf(block) {
				all = append(all, name+"."+inner)
			}
		}
	}
	return all
}

var optionRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| [^|]+ \\| ([^|]+) \\|$")

// TestEveryOptionIsProved: the table of the docs has every option, no others, and
// the tests that it names are there.
func TestEveryOptionIsProved(t *testing.T) {
	table, err := os.ReadFile("../docs/options-osc.md")
	if err != nil {
		t.Fatal(err)
	}
	there := testsOf(t, "acceptance", "osc")
	var proved []string
	for _, row := range optionRow.FindAllStringSubmatch(string(table), -1) {
		proved = append(proved, row[1])
		for _, name := range strings.Split(row[2], ", ") {
			if !there[strings.Trim(name, "`")] {
				t.Errorf("%s is proved by %s, which is no test", row[1], name)
			}
		}
	}
	slices.Sort(proved)
	if want := slices.Sorted(slices.Values(optionsOf(reflect.TypeFor[FlatConfig]()))); !slices.Equal(proved, want) {
		t.Errorf("the table has %v\nthe options are %v", proved, want)
	}
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsOf are the tests of some packages, each with its package's name.
func testsOf(t *testing.T, packages ...string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, name := range packages {
		files, err := filepath.Glob(filepath.Join("..", name, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range testName.FindAllStringSubmatch(string(text), -1) {
				names[name+"."+match[1]] = true
			}
		}
	}
	return names
}
