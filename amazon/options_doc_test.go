package amazon

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hcldec"
)

// optionsOf lists what a specification has, the options of blocks after the
// block's name and a dot.
func optionsOf(spec hcldec.ObjectSpec, before string) []string {
	var all []string
	for name, s := range spec {
		if strings.HasPrefix(name, "packer_") {
			continue
		}
		all = append(all, before+name)
		switch s := s.(type) {
		case *hcldec.BlockSpec:
			all = append(all, optionsOf(s.Nested.(hcldec.ObjectSpec), before+name+".")...)
		case *hcldec.BlockListSpec:
			all = append(all, optionsOf(s.Nested.(hcldec.ObjectSpec), before+name+".")...)
		}
	}
	return all
}

// testsOf lists the tests of the module's packages, as package.Test.
func testsOf(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			all = append(all, filepath.Base(filepath.Dir(path))+"."+string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryOptionIsInTheTable: the page names each option with a test that exists,
// and no option that there is not.
func TestEveryOptionIsInTheTable(t *testing.T) {
	page, err := os.ReadFile("../docs/options-amazon.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(page), "## What the public plugin accepts")
	tests := testsOf(t)
	var named []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\| ([^|]+) \\| `([^`]+)` \\|$").FindAllStringSubmatch(table, -1) {
		named = append(named, row[1])
		if !slices.Contains(tests, row[3]) {
			t.Errorf("%s is said to be proved by %s, and there is no such test", row[1], row[3])
		}
	}
	options := optionsOf((&Builder{}).ConfigSpec(), "")
	for _, option := range options {
		if !slices.Contains(named, option) {
			t.Errorf("the table has no row for %s", option)
		}
	}
	for i, option := range named {
		if !slices.Contains(options, option) || slices.Contains(named[:i], option) {
			t.Errorf("the table has a row too many for %s", option)
		}
	}
}
