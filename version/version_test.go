package version_test

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

func TestPluginVersionDefault(t *testing.T) {
	if got, want := version.Plugin.String(), version.Version+"-dev"; got != want {
		t.Errorf("version is %s, want %s", got, want)
	}
}

// TestLinkerSetsTheVersion builds a plugin like a release.
func TestLinkerSetsTheVersion(t *testing.T) {
	const path = "github.com/packer-chroot/packer-plugin-chroot/version"
	binary := filepath.Join(testdir.New(t), "packer-plugin-osc-chroot")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary,
		"-ldflags", "-X "+path+".Version=2.3.4 -X "+path+".Prerelease=",
		"github.com/packer-chroot/packer-plugin-chroot/cmd/packer-plugin-osc-chroot")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "describe").Output()
	if err != nil {
		t.Fatalf("cannot describe: %v", err)
	}
	var described struct {
		Version  string
		Builders []string
	}
	if err := json.Unmarshal(out, &described); err != nil {
		t.Fatalf("describe printed %q: %v", out, err)
	}
	if described.Version != "2.3.4" {
		t.Errorf("described version is %s, want 2.3.4", described.Version)
	}
	if len(described.Builders) != 1 || described.Builders[0] != "-packer-default-plugin-name-" {
		t.Errorf("described builders are %v, want the default name alone", described.Builders)
	}
}
