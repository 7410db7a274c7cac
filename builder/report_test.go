package builder_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	registryimage "github.com/hashicorp/packer-plugin-sdk/packer/registry/image"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// told is a report as JSON, as far as the tests read it.
type told struct {
	Succeeded bool
	Error     string
	Images    []struct{ ID string }
	Commands  []struct{ Line string }
	Warnings  []struct{ Text string }
	Steps     []struct{ Name string }
}

// TestArtifactHasTheReport checks the state for post-processors and the labels for HCP Packer, and that no
// file is written without the option.
func TestArtifactHasTheReport(t *testing.T) {
	t.Chdir(testdir.New(t))
	artifact, err := build(t.Context(), t, &screen{}, noProvisioner, job(t, nil), func(ctx context.Context, plan bake.Plan, report bake.Reporter) error {
		if plan.ListPackages {
			t.Error("packages are listed without a report")
		}
		report.Warn("take care")
		event.Emit(ctx, event.Packages{})
		event.Emit(ctx, event.Packages{After: true, Installed: []event.Package{{Name: "nano", Version: "1"}}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var r told
	if err := json.Unmarshal([]byte(artifact.State("build_report").(string)), &r); err != nil {
		t.Fatal(err)
	}
	if !r.Succeeded || len(r.Images) != 1 || r.Images[0].ID != "ami-2" || len(r.Warnings) != 1 || r.Steps[0].Name != "connect" {
		t.Errorf("%+v", r)
	}
	labels := artifact.State(registryimage.ArtifactStateURI).([]*registryimage.Image)[0].Labels
	if labels["packages_added"] != "1" || labels["packages_removed"] != "0" || labels["build_seconds"] == "" {
		t.Errorf("labels %v", labels)
	}
	if entries, _ := os.ReadDir("."); len(entries) > 0 {
		t.Errorf("written %v", entries)
	}
}

// TestReportHidesSensitiveVariables checks the files of a build that fails with a sensitive variable in its
// error, in a command and in a warning.
func TestReportHidesSensitiveVariables(t *testing.T) {
	const secret = `the "secret" <of> this & that test`
	path := filepath.Join(testdir.New(t), "r.html")
	j := job(t, map[string]any{
		"report":                     path,
		"packer_user_variables":      map[string]any{"password": secret},
		"packer_sensitive_variables": []any{"password"},
	})
	_, err := build(t.Context(), t, &screen{}, noProvisioner, j, func(ctx context.Context, plan bake.Plan, report bake.Reporter) error {
		if !plan.ListPackages {
			t.Error("packages are not listed")
		}
		report.Warn("it is %s", secret)
		event.Emit(ctx, event.Command{Place: "host", Line: "login " + secret, Err: errors.New("no " + secret)})
		return errors.New("cannot use " + secret)
	})
	if err == nil {
		t.Fatal("the build has not failed")
	}
	for _, name := range []string{path, strings.TrimSuffix(path, ".html") + ".json", strings.TrimSuffix(path, ".html") + ".trace.json"} {
		text, err := os.ReadFile(name)
		if err != nil || strings.Contains(string(text), "this ") || !strings.Contains(string(text), "sensitive") {
			t.Errorf("%s, %v:\n%s", name, err, text)
		}
	}
	text, err := os.ReadFile(strings.TrimSuffix(path, ".html") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var r told
	if err := json.Unmarshal(text, &r); err != nil || r.Succeeded || r.Error != "cannot use <sensitive>" || r.Commands[0].Line != "login <sensitive>" {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestReportThatCannotBeWritten checks that a wrong path ends the build before it begins.
func TestReportThatCannotBeWritten(t *testing.T) {
	if _, errs := decode(t, map[string]any{"report": "report.json"}); len(errs) != 1 || !strings.Contains(errs[0], `report: "report.json" does not end with a file name such as build.html`) {
		t.Errorf("%v", errs)
	}
	_, err := build(t.Context(), t, &screen{}, noProvisioner, job(t, map[string]any{"report": "/missing/report.html"}), func(context.Context, bake.Plan, bake.Reporter) error {
		t.Error("the build has begun")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), `report is "/missing/report.html", and cannot be written`) {
		t.Error(err)
	}
}

// TestReportThatCannotBeWrittenAtTheEnd checks that this is only a warning.
func TestReportThatCannotBeWrittenAtTheEnd(t *testing.T) {
	dir := filepath.Join(testdir.New(t), "sub")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ui := &screen{}
	_, err := build(t.Context(), t, ui, noProvisioner, job(t, map[string]any{"report": dir + "/r.html"}), func(context.Context, bake.Plan, bake.Reporter) error {
		return os.Remove(dir)
	})
	if err != nil {
		t.Error(err)
	}
	mustContain(t, ui.text(), "error cannot write the report: ")
}
