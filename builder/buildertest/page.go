package buildertest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"

	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// optionRow is a row of a page's table: the option, the version, and the tests.
var optionRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| [^|]+ \\| ([^|]+) \\|$")

// Page fails the test unless a page of the docs names each option once with existing tests, each
// as package.Test, and no other option. aliases are options that are named without their parts.
func Page(t *testing.T, plugin builder.Plugin, path string, aliases ...string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tests := testsBelow(t, filepath.Dir(filepath.Dir(path)))
	var named []string
	for _, row := range optionRow.FindAllStringSubmatch(string(text), -1) {
		named = append(named, row[1])
		for _, test := range strings.Split(row[2], ", ") {
			if !slices.Contains(tests, strings.Trim(test, "`")) {
				t.Errorf("%s is said to be proved by %s, and there is no such test", row[1], test)
			}
		}
	}
	slices.Sort(named)
	b := builder.Builder{Options: plugin.Options()}
	if there := slices.Sorted(slices.Values(optionsOf(b.ConfigSpec(), "", aliases))); !slices.Equal(named, there) {
		t.Errorf("the page has\n%v\nthe options are\n%v", named, there)
	}
}

// optionsOf lists the options of a specification; options of blocks follow the block's name and a
// dot.
func optionsOf(spec hcldec.ObjectSpec, before string, aliases []string) []string {
	var all []string
	for name, s := range spec {
		if strings.HasPrefix(name, "packer_") {
			continue
		}
		all = append(all, before+name)
		if slices.Contains(aliases, name) {
			continue
		}
		switch s := s.(type) {
		case *hcldec.BlockSpec:
			all = append(all, optionsOf(s.Nested.(hcldec.ObjectSpec), before+name+".", nil)...)
		case *hcldec.BlockListSpec:
			all = append(all, optionsOf(s.Nested.(hcldec.ObjectSpec), before+name+".", nil)...)
		}
	}
	return all
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// testsBelow lists the tests below a directory, each with its package's path, such as acceptance/build.TestExamples.
func testsBelow(t *testing.T, dir string) []string {
	t.Helper()
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") || entry.IsDir() {
			return err
		}
		pkg, _ := filepath.Rel(dir, filepath.Dir(path))
		source, err := os.ReadFile(path)
		for _, match := range testName.FindAllSubmatch(source, -1) {
			all = append(all, filepath.ToSlash(pkg)+"."+string(match[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
