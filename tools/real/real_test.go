//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// examples holds the template directories of both clouds.
var examples = map[string]string{"aws": "../../examples/real/aws", "osc": "../../examples/real/osc"}

// TestDocsListEveryTemplate checks that docs/real-clouds.md lists every build with the header
// of its template.
func TestDocsListEveryTemplate(t *testing.T) {
	page, err := os.ReadFile("../../docs/real-clouds.md")
	if err != nil {
		t.Fatal(err)
	}
	for cloud, dir := range examples {
		templates, err := readTemplates(dir)
		if err != nil {
			t.Fatal(err)
		}
		var rows bytes.Buffer
		list(&rows, templates)
		if !strings.Contains(string(page), rows.String()) {
			t.Errorf("the page lacks the builds on %s; bin/real -list %s %s prints them:\n%s", cloud, cloud, strings.TrimPrefix(dir, "../../"), &rows)
		}
	}
}

// TestExamplesAreTagged checks that every template tags its resources, so that they can be
// cleaned up.
func TestExamplesAreTagged(t *testing.T) {
	for cloud, dir := range examples {
		files, _ := filepath.Glob(filepath.Join(dir, "[0-9]*.pkr.hcl"))
		if len(files) < 12 {
			t.Errorf("%s has %d templates", cloud, len(files))
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range strings.Split(string(text), "\n") {
				if name, value, ok := strings.Cut(line, "="); ok && strings.HasSuffix(strings.TrimSpace(name), "tags") && !strings.Contains(value, "local.tags") {
					t.Errorf("%s: %s are not the run's", file, name)
				}
			}
			for _, option := range []string{"  tags ", "  snapshot_tags ", "  root_volume_tags "} {
				if !strings.Contains(string(text), option) {
					t.Errorf("%s has no %s", file, option)
				}
			}
		}
	}
}

// TestParseHeaders parses valid and invalid headers.
func TestParseHeaders(t *testing.T) {
	got, ok, err := parseTemplate("07-some-resource.pkr.hcl", "# Shows: one\n#   and two\n# Cost: 0.05\n# Runs: 2\n# Needs: REAL_A REAL_B\n# Says: a: b\n# Image: Tags.a = b = c\n\nsource {}\n# Fails: not in the header\n")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got.file != "07-some-resource" || got.name != "some-resource" || got.shows != "one and two" || got.cost != 0.05 || got.runs != 2 ||
		got.needs != "REAL_A REAL_B" || got.says[0] != "a: b" || got.checks[0] != (check{"Image", "Tags.a", "b = c"}) || got.fails != "" {
		t.Errorf("%+v", got)
	}
	for text, wrong := range map[string]string{
		"# Shows: a\n# Colour: red\n":                      `no line "Colour"`,
		"# Shows: a\n# Cost: much\n":                       "Cost",
		"# Shows: a\n# Runs: twice\n":                      "Runs",
		"# Shows: a\n# Image: green\n":                     "PATH = VALUE",
		"# Shows: a\n# Fails: b\n# Image: State = green\n": "no image",
	} {
		if _, _, err := parseTemplate("a.pkr.hcl", text); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, ok, err := parseTemplate("a.pkr.hcl", "# A comment\nvariable {}"); ok || err != nil {
		t.Errorf("a file without a header: %v, %v", ok, err)
	}
}

func FuzzHeads(f *testing.F) {
	f.Add("# Shows: one\n#   and two\n# Cost: 0.05\n# Runs: 2\n# Copy: a = b\n")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok, err := parseTemplate("1-a.pkr.hcl", text)
		if ok && (err != nil || got.shows == "") {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestResourceChecks looks values up in resources.
func TestResourceChecks(t *testing.T) {
	type tag struct{ Key, Value string }
	resource := struct {
		State string
		Size  *int
		Tags  []tag
		Disks []map[string]any
	}{"available", new(int), []tag{{"a.b", "c"}, {"d", "e"}}, []map[string]any{{"Encrypted": true}}}
	for _, test := range []struct {
		path, want string
		holds      bool
	}{
		{"State", "available", true}, {"State", "*", true}, {"State", "pending", false}, {"Size", "0", true},
		{"Tags.d", "e", true}, {"Tags.0.Key", "a.b", true}, {"Tags.x", "*", false}, {"Tags.9.Key", "*", false},
		{"Disks.0.Encrypted", "true", true}, {"Disks.1.Encrypted", "true", false}, {"Nothing.at.all", "*", false}, {"Nothing", "", true},
	} {
		err := check{"Image", test.path, test.want}.holds(resource)
		if (err == nil) != test.holds {
			t.Errorf("%s = %s: %v", test.path, test.want, err)
		}
	}
}

// TestSelectTemplates checks that templates are selected by name, and unknown names are
// refused.
func TestSelectTemplates(t *testing.T) {
	all := []template{{file: "01-a", name: "a"}, {file: "02-b", name: "b"}}
	if got, err := pick(all, "b,01-a"); err != nil || len(got) != 2 || got[0].name != "b" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := pick(all, "c"); err == nil || !strings.Contains(err.Error(), `"c"`) {
		t.Error(err)
	}
}

// TestCleanRefusesForeignRuns checks that -clean accepts only the ID of a run, or the
// directory of its report.
func TestCleanRefusesForeignRuns(t *testing.T) {
	for _, clean := range []string{"production", "*", "real-1", "../..", "/"} {
		if err := cleanUp(t.Context(), arguments{cloud: "aws", clean: clean}, nil); err == nil || !strings.Contains(err.Error(), clean) {
			t.Errorf("%q: %v", clean, err)
		}
	}
}

// TestCleaningNeedsKeysOnly checks that cleaning up requires only the keys and the region, so
// that it works on any machine after the instance is lost.
func TestCleaningNeedsKeysOnly(t *testing.T) {
	for name, keys := range map[string]string{"aws": "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION", "osc": "OSC_ACCESS_KEY OSC_SECRET_KEY OSC_REGION"} {
		for _, key := range strings.Fields(keys + " AWS_PROFILE REAL_SOURCE REAL_BUDGET_TAG") {
			t.Setenv(key, "")
		}
		if _, err := environmentOf(name, true); err == nil || strings.Contains(err.Error(), "REAL_") || !strings.Contains(err.Error(), strings.Fields(keys)[1]) {
			t.Errorf("%s, nothing set: %v", name, err)
		}
		for _, key := range strings.Fields(keys) {
			t.Setenv(key, "x")
		}
		if e, err := environmentOf(name, true); err != nil || e.region != "x" {
			t.Errorf("%s, keys set: %+v, %v", name, e, err)
		}
		if _, err := environmentOf(name, false); err == nil || !strings.Contains(err.Error(), "REAL_BUDGET_TAG") {
			t.Errorf("%s, builds without a tag: %v", name, err)
		}
	}
}

// TestBudgetTag checks that a budget tag that no resource can have is refused before the first
// build.
func TestBudgetTag(t *testing.T) {
	for _, key := range strings.Fields("AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION REAL_SOURCE") {
		t.Setenv(key, "x")
	}
	for tag, right := range map[string]bool{
		"CostCenter=1234": true, "a=b=c": true, "awsome=1": true,
		"money": false, "=1": false, "a=": false, runTag + "=1": false, "aws:cost=1": false, "AWS:cost=1": false,
	} {
		t.Setenv("REAL_BUDGET_TAG", tag)
		if _, err := environmentOf("aws", false); (err == nil) != right || err != nil && !strings.Contains(err.Error(), tag) {
			t.Errorf("%q: %v", tag, err)
		}
	}
}
