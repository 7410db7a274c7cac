// Package imports tests the imports of the module: which package may import which other
// package, and which other modules are used. docs/design.md gives the reasons.
package imports

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

// mayImport lists, for each package, the other packages of this module that it may import.
// Every package must be listed.
var mayImport = map[string][]string{
	"cmd/packer-plugin-amazon-chroot": {"amazon"},
	"cmd/packer-plugin-osc-chroot":    {"osc"},
	"tools/real":                      {"sdkhttp"},
	"tools/testsummary":               {},
	"cmd/loopcloud":                   {"loopcloud", "loopcloud/...", "remove", "version"},

	"amazon": {
		"amazon/ebsdirect", "builder", "bake", "chroot", "event", "lazydisk", "lazydisk/block", "lazydisk/cache", "retry", "sdkhttp",
		"version",
	},
	"amazon/ebsdirect": {"event", "lazydisk/block", "retry"},

	"osc":     {"builder", "bake", "chroot", "event", "retry", "version"},
	"builder": {"bake", "chroot", "event", "lazydisk", "lazydisk/cache", "report", "version"},
	"bake": {
		"chroot", "disk", "disk/exclusive", "event", "lazydisk", "lazydisk/block", "lazydisk/cache", "lazydisk/fetch", "polling",
		"retry", "safedir", "undo",
	},
	"chroot":  {"chroot/...", "disk/exclusive", "disk/superblock"},
	"disk":    {"disk/devnode", "disk/exclusive", "disk/inotify", "disk/superblock"},
	"polling": {"safedir"},
	"undo":    {"safedir"},
	"safedir": {},
	"event":   {},
	"report":  {"event"},
	"retry":   {"event"},
	"sdkhttp": {},
	"version": {},

	"chroot/blockdev":     {},
	"chroot/cgroup":       {"chroot/procfs"},
	"chroot/command":      {"chroot/cgroup", "chroot/namespace"},
	"chroot/holders":      {"chroot/cgroup", "chroot/mounttable", "chroot/namespace", "chroot/procfs", "disk/loopdev"},
	"chroot/hostdir":      {},
	"chroot/mountoptions": {},
	"chroot/mountpoint":   {"safedir"},
	"chroot/mounttable":   {"chroot/blockdev", "chroot/namespace", "chroot/procfs"},
	"chroot/namespace":    {"chroot/procfs"},
	"chroot/override":     {"chroot/rootfs", "chroot/transfer"},
	"chroot/packages":     {"chroot/rootfs"},
	"chroot/procfs":       {},
	"chroot/registration": {"chroot/procfs", "chroot/rootfs"},
	"chroot/rendezvous":   {"chroot/command", "chroot/wire", "safedir"},
	"chroot/rootfs":       {},
	"chroot/selinux":      {"chroot/rootfs"},
	"chroot/transfer":     {"chroot/hostdir", "chroot/rootfs"},
	"chroot/wire":         {},
	"chroot/writeback":    {"chroot/mounttable"},

	"bake/cloudtest":      {"bake", "chroot", "disk"},
	"builder/buildertest": {"bake", "builder", "testdir", "version"},
	"disk/devnode":        {},
	"disk/exclusive":      {},
	"disk/inotify":        {},
	"disk/loopdev":        {"disk/devnode"},

	"disk/superblock": {},

	"lazydisk": {
		"chroot/procfs", "chroot/wire", "disk/devnode", "disk/loopdev", "lazydisk/block", "lazydisk/cache", "lazydisk/cow",
		"lazydisk/fetch", "lazydisk/fusefile", "lazydisk/loop", "lazydisk/overlay", "lazydisk/rpc",
	},
	"lazydisk/block":      {},
	"lazydisk/cache":      {"lazydisk/block", "safedir"},
	"lazydisk/cow":        {"lazydisk/block", "lazydisk/fetch", "lazydisk/overlay"},
	"lazydisk/fetch":      {"lazydisk/block", "lazydisk/cache"},
	"lazydisk/fusefile":   {},
	"lazydisk/loop":       {"disk/devnode", "disk/loopdev"},
	"lazydisk/overlay":    {"lazydisk/block"},
	"lazydisk/rpc":        {"lazydisk/block"},
	"lazydisk/sourcetest": {"lazydisk/block"},

	"remove":   {},
	"testdir":  {"remove"},
	"testroot": {},

	"loopcloud":        {"loopcloud/...", "remove", "safedir"},
	"loopcloud/state":  {},
	"loopcloud/volume": {"loopcloud/state", "disk", "disk/inotify", "disk/loopdev", "remove"},
	"loopcloud/fault":  {},
	"loopcloud/qemu":   {},
	"loopcloud/sigv4":  {"loopcloud/state"},
	"loopcloud/wire":   {},
	"loopcloud/query":  {"loopcloud/state", "loopcloud/sigv4", "loopcloud/wire"},
	"loopcloud/ebs":    {"loopcloud/state", "loopcloud/sigv4", "loopcloud/wire"},
	"loopcloud/ec2":    {"loopcloud/state", "loopcloud/sigv4", "loopcloud/query"},
	"loopcloud/sts":    {"loopcloud/state", "loopcloud/sigv4", "loopcloud/query"},
	"loopcloud/kms":    {"loopcloud/state", "loopcloud/sigv4", "loopcloud/wire"},
	"loopcloud/imds":   {"loopcloud/state", "loopcloud/wire"},
	"loopcloud/oapi":   {"loopcloud/state", "loopcloud/sigv4", "loopcloud/wire"},

	"loopcloud/state/statetest": {"loopcloud/state"},
	"loopcloud/oapi/apitest":    {"loopcloud/wiretest"},
	"loopcloud/query/apitest":   {"loopcloud/wiretest"},
	"loopcloud/wiretest":        {},
	"loopcloud/qemu/qemutest":   {"loopcloud/qemu", "testdir"},

	"acceptance/build":     {},
	"acceptance/chroot":    {},
	"acceptance/faults":    {},
	"acceptance/kills":     {},
	"acceptance/loopcloud": {},
	"acceptance/options":   {},
	"acceptance/harness":   {"loopcloud/oapi/apitest", "loopcloud/query/apitest", "polling", "remove", "sdkhttp", "testdir", "testroot"},
}

// decided lists the modules that code may import. docs/design.md gives a reason for each.
var decided = []string{
	"github.com/aws/aws-sdk-go-v2",
	"github.com/aws/smithy-go",
	"github.com/getkin/kin-openapi",
	"github.com/hanwen/go-fuse/v2",
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

// packages returns the packages of this module as they are built for Linux, without tests.
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

// relative returns the path of a package below the module, and reports whether the package
// belongs to the module.
func relative(importPath string) (string, bool) {
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

// TestImports checks every import of a package of this module.
func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		from, ok := relative(p.ImportPath)
		if !ok {
			continue
		}
		rules, known := mayImport[from]
		if !known {
			t.Errorf("%s is not listed: add it to mayImport with its imports, and to the packages in docs/design.md", from)
			continue
		}
		for _, imported := range p.Imports {
			if to, ok := relative(imported); ok && !allowed(rules, to) {
				t.Errorf("%s imports %s, which mayImport does not allow", from, to)
			}
		}
	}
}

// TestDependencies checks that every imported module is in decided and has a reason in
// docs/design.md, and that every module in decided is used.
func TestDependencies(t *testing.T) {
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
			if _, own := relative(imported); own || imported == module || !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				continue
			}
			i := slices.IndexFunc(decided, func(dep string) bool {
				return imported == dep || strings.HasPrefix(imported, dep+"/")
			})
			if i < 0 {
				t.Errorf("%s imports %s, which is not in decided", p.ImportPath, imported)
				continue
			}
			used[decided[i]] = true
		}
	}
	for _, dep := range decided {
		if !used[dep] {
			t.Errorf("%s is in decided, but nothing imports it", dep)
		}
	}
}

// TestDirectRequirements checks that each direct requirement in go.mod is listed in decided
// or in forTests.
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
			t.Errorf("go.mod requires %s directly, which is not in decided", m[1])
		}
	}
}

// TestRecursiveRemovals checks that only package remove removes directories recursively, and
// that only package testdir creates temporary directories of tests. Other functions also
// delete files below mount points, such as the host's /dev.
func TestRecursiveRemovals(t *testing.T) {
	code := regexp.MustCompile(`\.(go|sh|hcl|ya?ml)$|^Makefile$|^\.ci/`)
	goCode := regexp.MustCompile(`\bos\.RemoveAll\b|(\w+)\.TempDir\(\)`)
	script := regexp.MustCompile(`\brm\s+(-\w+\s+)*(-\w*[rR]|--recursive)`)
	// WalkDir, not git: the cache of go test only notices files that the test itself opens
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "dist", "remove", "testdir"}, file):
			return fs.SkipDir
		case d.IsDir() || file == "imports_test.go" || !code.MatchString(file):
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
