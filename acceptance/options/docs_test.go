package options

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// docsWithTemplates are the pages with examples of templates, or parts of them, and the builder of each.
// TestAmazonPolicy and TestOSCPolicy check the policies.
var docsWithTemplates = []struct {
	page   string
	flavor harness.Flavor
	// examples is the least number of examples, so that the test fails if it finds none.
	examples int
}{
	{"README.md", harness.Flavors[0], 2},
	{".web-docs/components/builder/amazon-chroot/README.md", harness.Flavors[0], 20},
	{".web-docs/components/builder/osc-chroot/README.md", harness.Flavors[1], 7},
	{"docs/ansible.md", harness.Flavors[0], 2},
	{"docs/direct.md", harness.Flavors[0], 1},
	{"docs/moving-from-outscale-chroot.md", harness.Flavors[1], 1},
}

var (
	example = regexp.MustCompile("(?ms)^```(hcl|json)\n(.*?)^```$")
	// whole matches a top-level block of an HCL2 template.
	whole = regexp.MustCompile(`(?m)^(packer|source|build|locals|variable)\b.*\{`)
	// inBuild matches a block inside a build block.
	inBuild = regexp.MustCompile(`(?m)^(provisioner|post-processor)\b.*\{`)
	// assigned is an option that a part of a source has.
	assigned = regexp.MustCompile(`(?m)^(\w+)\s*(=|\{)`)
)

// TestTemplatesInDocs checks that every template in the docs is valid, and that every excerpt
// is part of the template that it refers to.
func TestTemplatesInDocs(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	v := newValidator(t, harness.Programs.Plugins)
	for _, d := range docsWithTemplates {
		text := harness.Read(filepath.Join(harness.Programs.Repo, d.page))
		found := example.FindAllStringSubmatch(text, -1)
		if len(found) < d.examples {
			t.Errorf("%s has %d examples", d.page, len(found))
		}
		for i, e := range found {
			t.Run(fmt.Sprintf("%s %d", d.page, i+1), func(t *testing.T) {
				name, content := "t.pkr.hcl", hclAround(d.flavor, e[2])
				if e[1] == "json" {
					name, content = "t.json", jsonAround(t, d.flavor, e[2])
				}
				if ok, out := v.valid(name, []byte(content)); !ok {
					t.Errorf("%s\n%s", content, out)
				}
			})
		}
	}
}

// TestTemplatesInExamples checks that the templates in files of their own are valid too.
func TestTemplatesInExamples(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	v := newValidator(t, harness.Programs.Plugins)
	v.env = append(v.env, "PKR_VAR_source="+harness.SourceID)
	files, err := filepath.Glob(filepath.Join(harness.Programs.Repo, "examples", "*", "*.pkr.hcl"))
	if err != nil || len(files) < 4 {
		t.Fatalf("examples %v, %v", files, err)
	}
	for _, file := range files {
		if ok, out := v.valid("t.pkr.hcl", []byte(harness.Read(file))); !ok {
			t.Errorf("%s:\n%s", file, out)
		}
	}
}

// hclAround is the template that an HCL2 example is, or is a part of: of a build, or of
// a source.
func hclAround(f harness.Flavor, text string) string {
	const build = "\nbuild {\n  sources = [\"source.%s.x\"]\n%s}\n"
	switch {
	case whole.MatchString(text):
		return text
	case inBuild.MatchString(text):
		return hclSource(f, "") + fmt.Sprintf(build, f.Name, text)
	}
	return "locals {\n  version = \"1\"\n}\n" + hclSource(f, text) + fmt.Sprintf(build, f.Name, "")
}

// hclSource is a source with options, and with those of the basic example that they
// leave out.
func hclSource(f harness.Flavor, options string) string {
	given := map[string]bool{}
	for _, m := range assigned.FindAllStringSubmatch(options, -1) {
		given[m[1]] = true
	}
	var left strings.Builder
	for name, value := range f.Basic(harness.O{"type": nil}) {
		if !given[name] && !given[name+"_filter"] {
			fmt.Fprintf(&left, "%s = %q\n", name, value)
		}
	}
	return fmt.Sprintf("source %q \"x\" {\n%s%s}\n", f.Name, options, &left)
}

// jsonAround is the template that a JSON example is, or is a part of: a provisioner, a
// builder, or some of its options.
func jsonAround(t *testing.T, f harness.Flavor, text string) string {
	t.Helper()
	var part harness.O
	if err := json.Unmarshal([]byte(text), &part); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	template := harness.O{"builders": []any{f.Basic(nil)}}
	kind, typed := part["type"].(string)
	switch {
	case part["builders"] != nil || part["provisioners"] != nil:
		maps.Copy(template, part)
	case typed && kind != f.Name:
		template["provisioners"] = []any{part}
	case typed:
		template["builders"] = []any{part}
	default:
		for name := range part {
			if source, filter := strings.CutSuffix(name, "_filter"); filter {
				part[source] = nil
			}
		}
		template["builders"] = []any{f.Basic(part)}
	}
	content, err := json.Marshal(template)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
