// Package rooms holds the plan of the house: which room may import which, and
// which modules the house stands on. docs/design.md gives the reasons.
package rooms

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/packer-chroot/packer-plugin-chroot"

// mayImport says for each room which other rooms of the house it may import.
// A room that is not listed here does not exist.
var mayImport = map[string][]string{
	"cmd/packer-plugin-amazon-chroot": {"amazon"},
	"cmd/packer-plugin-osc-chroot":    {"osc"},
	"tools/real":                      {},
	"cmd/loopcloud":                   {"loopcloud", "loopcloud/...", "remove", "version"},

	"amazon":  {"builder", "bake", "chroot", "event", "retry", "sdkhttp", "version"},
	"osc":     {"builder", "bake", "chroot", "event", "retry", "version"},
	"builder": {"bake", "chroot", "event", "version"},
	"bake":    {"chroot", "disk", "disk/exclusive", "event", "retry", "safedir", "undo"},
	"chroot":  {"disk/exclusive", "disk/superblock", "safedir"},
	"disk":    {"disk/exclusive", "disk/inotify", "disk/superblock"},
	"undo":    {"safedir"},
	"safedir": {},
	"event":   {},
	"retry":   {"event"},
	"sdkhttp": {},
	"version": {},

	"bake/cloudtest":      {"bake", "chroot", "disk"},
	"builder/buildertest": {"bake", "builder", "testdir", "version"},
	"disk/exclusive":      {},
	"disk/inotify":        {},

	"disk/superblock": {},

	"remove":  {},
	"testdir": {"remove"},

	"loopcloud":        {"loopcloud/...", "remove", "safedir"},
	"loopcloud/state":  {},
	"loopcloud/volume": {"loopcloud/state", "disk", "disk/inotify", "remove"},
	"loopcloud/fault":  {},
	"loopcloud/qemu":   {},
	"loopcloud/sigv4":  {"loopcloud/state"},
	"loopcloud/query":  {"loopcloud/state", "loopcloud/sigv4"},
	"loopcloud/ec2":    {"loopcloud/state", "loopcloud/sigv4", "loopcloud/query"},
	"loopcloud/sts":    {"loopcloud/state", "loopcloud/sigv4", "loopcloud/query"},
	"loopcloud/kms":    {"loopcloud/state", "loopcloud/sigv4"},
	"loopcloud/imds":   {"loopcloud/state"},
	"loopcloud/oapi":   {"loopcloud/state", "loopcloud/sigv4"},

	"loopcloud/state/statetest": {"loopcloud/state"},
	"loopcloud/oapi/apitest":    {"loopcloud/wiretest"},
	"loopcloud/query/apitest":   {"loopcloud/wiretest"},
	"loopcloud/wiretest":        {},
	"loopcloud/qemu/qemutest":   {"loopcloud/qemu", "testdir"},

	"acceptance": {"sdkhttp"},
}

// decided are the modules that non-test code may import, each with its reason in
// docs/design.md.
var decided = []string{
	"github.com/aws/aws-sdk-go-v2",
	"github.com/aws/smithy-go",
	"github.com/getkin/kin-openapi",
	"github.com/hashicorp/hcl/v2",
	"github.com/hashicorp/packer-plugin-sdk",
	"github.com/hashicorp/vault/api",
	"github.com/moby/sys/mountinfo",
	"github.com/outscale/osc-sdk-go/v3",
	"github.com/zclconf/go-cty",
	"golang.org/x/sync",
	"golang.org/x/sys",
}

type listed struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

// packages lists the house's packages as they are built for Linux, tests left out.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS=linux")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
	return all
}

func room(importPath string) (string, bool) {
	return strings.CutPrefix(importPath, module+"/")
}

func allowed(rules []string, to string) bool {
	return slices.ContainsFunc(rules, func(rule string) bool {
		if below, ok := strings.CutSuffix(rule, "/..."); ok {
			return strings.HasPrefix(to, below+"/")
		}
		return rule == to
	})
}

func TestImportsRunOneWay(t *testing.T) {
	for _, p := range packages(t) {
		from, ok := room(p.ImportPath)
		if !ok {
			continue
		}
		rules, known := mayImport[from]
		if !known {
			t.Errorf("%s is no room of the house: see docs/design.md, and add it to mayImport with its arrows", from)
			continue
		}
		for _, imported := range p.Imports {
			if to, ok := room(imported); ok && !allowed(rules, to) {
				t.Errorf("%s imports %s: the design has no such arrow", from, to)
			}
		}
	}
}

func TestDependenciesAreDecided(t *testing.T) {
	design, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range decided {
		if !strings.Contains(string(design), "`"+dep+"`") {
			t.Errorf("docs/design.md gives no reason for %s", dep)
		}
	}
	used := map[string]bool{}
	for _, p := range packages(t) {
		for _, imported := range p.Imports {
			if _, own := room(imported); own || imported == module || !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				continue
			}
			i := slices.IndexFunc(decided, func(dep string) bool {
				return imported == dep || strings.HasPrefix(imported, dep+"/")
			})
			if i < 0 {
				t.Errorf("%s imports %s: not a dependency that was decided", p.ImportPath, imported)
				continue
			}
			used[decided[i]] = true
		}
	}
	for _, dep := range decided {
		if !used[dep] {
			t.Errorf("%s is decided but nothing imports it", dep)
		}
	}
}

// TestDirectRequirements holds go.mod's direct requirements to what the code and
// its tests import, so that nothing is required that nobody chose.
func TestDirectRequirements(t *testing.T) {
	forTests := []string{"github.com/google/go-cmp"}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\t(\S+) v\S+$`)
	for _, m := range line.FindAllStringSubmatch(string(mod), -1) {
		isDecided := slices.ContainsFunc(decided, func(dep string) bool {
			return m[1] == dep || strings.HasPrefix(m[1], dep+"/")
		})
		if !isDecided && !slices.Contains(forTests, m[1]) {
			t.Errorf("go.mod requires %s directly: not a dependency that was decided", m[1])
		}
	}
}

// TestRecursiveRemovals allows recursive removals only by package remove, and temporary
// directories of tests only by package testdir: everything else deletes also what is
// mounted below, such as the host's /dev.
func TestRecursiveRemovals(t *testing.T) {
	code := regexp.MustCompile(`\.(go|sh|hcl|ya?ml)$|^Makefile$|^\.ci/`)
	goCode := regexp.MustCompile(`\bos\.RemoveAll\b|(\w+)\.TempDir\(\)`)
	script := regexp.MustCompile(`\brm\s+(-\w+\s+)*(-\w*[rR]|--recursive)`)
	// files are found by walking, not by git: what a test reads is what go test's cache knows
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "remove", "testdir"}, file):
			return fs.SkipDir
		case d.IsDir() || file == "rooms_test.go" || !code.MatchString(file):
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if m := goCode.FindStringSubmatch(line); m != nil && m[1] != "os" && strings.HasSuffix(file, ".go") {
				t.Errorf("%s:%d: %s: use remove.All, or testdir.New in a test", file, i+1, m[0])
			}
			if script.MatchString(line) && !strings.HasSuffix(file, ".go") {
				t.Errorf("%s:%d: rm -r: use remove_tree of tools/remove.sh", file, i+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
