package build

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// reportFiles are the files of the report of a test.
var reportFiles = []string{"report.html", "report.json", "report.trace.json"}

// reportOf returns the report of a build, as its documented JSON.
func reportOf(b *harness.Box) (r struct {
	Format    int
	Succeeded bool
	Error     string
	Images    []struct {
		Region, ID string
		Snapshots  []string
	}
	Division map[string]float64
	Seconds  float64
	Steps    []struct{ Name, Error string }
	Actions  []struct {
		Action                  string
		Calls, Failed, Repeated int
	}
	Resources []struct{ Kind, Name, Fate string }
	Packages  *struct {
		Compared bool
		Before   int
		Added    []struct{ Name, Version string }
	}
	Commands  []struct{ Line string }
	Transfers []struct{ Bytes int64 }
	Undone    []struct{ Text string }
	Holders   []struct{ Text string }
},
) {
	b.Helper()
	b.Must(json.Unmarshal([]byte(harness.Read(filepath.Join(b.Dir, "report.json"))), &r))
	return r
}

// TestReport checks the summary and the report of a build: images, resources, calls, packages and the
// division of the time.
func TestReport(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		b.Control(http.MethodPost, "faults", map[string]any{"action": f.Action("AttachVolume"), "error": "throttled", "times": 1}, nil)
		b.Calls()
		out := b.Build(b.Template(f.Basic(map[string]any{"report": "report.html", "post_mount_commands": []string{"mkdir -p {{.MountPath}}/var/lib/dpkg && touch {{.MountPath}}/var/lib/dpkg/status"}}),
			harness.Shell(`printf 'Package: nano\nStatus: install ok installed\nVersion: 7.2-1\n' > /var/lib/dpkg/status`)))
		made := b.Made()
		r := reportOf(b)
		if r.Format != 1 || !r.Succeeded || len(r.Images) != 1 || r.Images[0].ID != made.ID {
			t.Errorf("the report is of %+v, want %s", r.Images, made.ID)
		}
		var kept, removed []string
		for _, resource := range r.Resources {
			switch resource.Fate {
			case "kept":
				kept = append(kept, resource.Kind)
			case "removed":
				removed = append(removed, resource.Kind)
			default:
				t.Errorf("%s is %s", resource.Name, resource.Fate)
			}
		}
		if !slices.Equal(kept, []string{"snapshot", "image"}) || !slices.Equal(removed, []string{"volume"}) {
			t.Errorf("kept %v, removed %v", kept, removed)
		}
		for _, a := range r.Actions {
			if a.Action == f.Action("AttachVolume") && (a.Calls != 2 || a.Failed != 1 || a.Repeated != 1) {
				t.Errorf("%+v", a)
			}
		}
		if r.Packages == nil || !r.Packages.Compared || r.Packages.Before != 0 || len(r.Packages.Added) != 1 || r.Packages.Added[0].Version != "7.2-1" {
			t.Errorf("packages %+v", r.Packages)
		}
		if len(r.Transfers) == 0 || r.Transfers[0].Bytes == 0 || len(r.Commands) < 2 {
			t.Errorf("transfers %v, commands %v", r.Transfers, r.Commands)
		}
		sum := 0.0
		for part, seconds := range r.Division {
			if sum += seconds; part != "pauses" && seconds <= 0 {
				t.Errorf("%s took %v", part, seconds)
			}
		}
		if sum < r.Seconds-0.01 || sum > r.Seconds+0.01 {
			t.Errorf("the parts %v are not the whole, %v", r.Division, r.Seconds)
		}
		for _, line := range []string{`Summary: the build has succeeded after \S+`, `mount root +\S+ \|[ #]{24}\|`, `the cloud \S+ \(\d+%\), provisioners and commands \S+ \(\d+%\), the builder `, `\d+ calls, of which 1 failed`} {
			if !regexp.MustCompile(line).MatchString(out) {
				t.Errorf("the summary does not show %q:\n%s", line, out)
			}
		}
		if regexp.MustCompile(`[\x00-\x08\x0b-\x1f\x7f]`).MatchString(out) {
			t.Errorf("the output has control characters: %q", out)
		}
		page := harness.Read(filepath.Join(b.Dir, "report.html"))
		for _, want := range append([]string{made.ID, "nano", f.Action("AttachVolume")}, r.Images[0].Snapshots...) {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not have %q", want)
			}
		}
		if dump := os.Getenv("REPORT_TEST_DUMP"); dump != "" {
			for _, name := range reportFiles {
				b.Must(os.WriteFile(dump+"-"+f.Name+"-"+name, []byte(harness.Read(filepath.Join(b.Dir, name))), 0o600))
			}
		}
		b.Remove(made.ID)
		b.Unchanged(before)
	})
}

// TestReportOfAFailedBuild checks that a build that fails writes its report too, with all that was undone.
func TestReportOfAFailedBuild(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		out := b.Fails(b.Template(f.Basic(map[string]any{"report": filepath.Join(b.Dir, "report.html")}), harness.Shell("sleep 1000 & exit 3")), "exit status: 3")
		b.Says(out, "Summary: the build has failed after", "the report is "+b.Dir)
		r := reportOf(b)
		if r.Succeeded || !strings.Contains(r.Error, "exit status: 3") || len(r.Images) != 0 {
			t.Errorf("the report is %v, %q, of %v", r.Succeeded, r.Error, r.Images)
		}
		if len(r.Holders) == 0 || !strings.Contains(r.Holders[0].Text, "sleep") {
			t.Errorf("ended %v", r.Holders)
		}
		if len(r.Undone) < 3 || len(r.Resources) != 1 || r.Resources[0].Fate != "removed" {
			t.Errorf("undone %v, resources %v", r.Undone, r.Resources)
		}
		b.Unchanged(before)
	})
}

// TestReportThatCannotBeWritten checks that nothing is requested if the report cannot be written.
func TestReportThatCannotBeWritten(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		b.Calls()
		b.Must(os.Mkdir(filepath.Join(b.Dir, "report.json"), 0o755))
		for path, want := range map[string]string{
			"missing/report.html": `report is "missing/report.html", and cannot be written`,
			"report.html":         "report.json exists and is not a regular file",
			"report":              `report: "report" does not end with`,
		} {
			b.Fails(b.Template(f.Basic(map[string]any{"report": path}), harness.Shell("true")), want)
		}
		if calls := b.Calls(); len(calls) > 0 {
			t.Errorf("called %v", calls)
		}
	})
}
