package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// release builds the plugin as it is released.
func release(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "packer-plugin-amazon-chroot")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	return binary
}

// TestPlugin is what Packer, and who downloads it, sees of the binary.
func TestPlugin(t *testing.T) {
	binary := release(t)

	t.Run("describes itself", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), binary, "describe")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Fatalf("%v: %s", err, stderr.Bytes())
		}
		var d struct {
			Version    string
			APIVersion string `json:"api_version"`
			Builders   []string
		}
		if err := json.Unmarshal(out, &d); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		// the default name is what makes the template's type that of the binary
		if d.Version != version.Plugin.String() || d.APIVersion != "x5.0" || len(d.Builders) != 1 || d.Builders[0] != "-packer-default-plugin-name-" {
			t.Errorf("described as %+v", d)
		}
	})

	t.Run("is for Packer to start", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), binary, "start", "builder", "-packer-default-plugin-name-")
		cmd.Env = []string{}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err == nil || len(out) > 0 || !strings.Contains(stderr.String(), "Packer") {
			t.Errorf("%v; on standard output %q, on standard error %q", err, out, stderr.Bytes())
		}
	})

	t.Run("is small", func(t *testing.T) {
		const limit = 25_000_000
		info, err := os.Stat(binary)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > limit {
			t.Errorf("the binary has %d bytes, more than %d", info.Size(), limit)
		}
	})
}
