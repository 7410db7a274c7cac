package buildertest

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// maxBinary is how many bytes a plugin may have, as it is released.
const maxBinary = 30_000_000

// defaultName is a plugin's name of its only builder. The builder's type is then that of the
// plugin's file name.
const defaultName = "-packer-default-plugin-name-"

// Binary tests the plugin of the command in this directory against the requirements of Packer and
// of its users on a binary.
func Binary(t *testing.T) {
	t.Helper()
	binary := release(t)
	t.Run("describes itself", func(t *testing.T) {
		out, stderr, err := run(t, binary, "describe")
		if err != nil || stderr != "" {
			t.Fatalf("%v: %s", err, stderr)
		}
		var d struct {
			Version    string
			APIVersion string `json:"api_version"`
			Builders   []string
		}
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		if d.Version != version.Plugin.String() || d.APIVersion != "x5.0" || len(d.Builders) != 1 || d.Builders[0] != defaultName {
			t.Errorf("described as %+v", d)
		}
	})
	t.Run("is for Packer to start", func(t *testing.T) {
		out, stderr, err := run(t, binary, "start", "builder", defaultName)
		if err == nil || out != "" || !strings.Contains(stderr, "Packer") {
			t.Errorf("%v; on standard output %q, on standard error %q", err, out, stderr)
		}
	})
	t.Run("is small", func(t *testing.T) {
		info, err := os.Stat(binary)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > maxBinary {
			t.Errorf("the binary has %d bytes, more than %d", info.Size(), maxBinary)
		}
	})
}

// run returns the output of a program with an empty environment.
func run(t *testing.T, binary string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = []string{}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// release builds the plugin as it is released.
func release(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(testdir.New(t), "plugin")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	return binary
}
