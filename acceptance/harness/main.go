// Package harness holds the code that the acceptance tests share. It starts loopclouds, runs builds
// with the real Packer, and inspects images and the host. Every suite calls Main or MainWith from
// its TestMain.
package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// Installed names the programs under test and their tools.
type Installed struct {
	Repo, Loopcloud, Packer string
	// Plugins is the PACKER_PLUGIN_PATH that holds both plugins.
	Plugins string
	// Root is a root file system of one busybox.
	Root string
	// Store is the directory of a loopcloud with Root as its only image.
	Store string
}

// Programs are the installed programs. Main sets it.
var Programs Installed

// CI says that no test may be left out.
var CI = os.Getenv("CI") == "true"

// Main is the TestMain of every suite: it builds and installs the programs, runs the tests, fails if they left anything on
// the host, and exits.
func Main(m *testing.M) {
	runContainer()
	exit(run(m, prepare))
}

// MainWith is Main with programs that are installed already.
func MainWith(m *testing.M, programs Installed) {
	exit(run(m, func(string) error {
		Programs = programs
		return nil
	}))
}

func exit(code int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		code = 1
	}
	os.Exit(code)
}

// run prepares the programs and runs the tests.
func run(m *testing.M, prepare func(dir string) error) (code int, err error) {
	runsDir = os.TempDir()
	dir, err := os.MkdirTemp(runsDir, runPrefix)
	if err != nil {
		return 1, err
	}
	alive, err := markAlive(dir)
	if err != nil {
		return 1, err
	}
	defer alive.Close() // after the removal
	defer func() { err = errors.Join(err, remove.All(dir)) }()
	// Every test's directory lies below it, so that files that a test leaves can be told from those of other programs.
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return 1, err
	}
	if os.Geteuid() == 0 {
		if err := prepare(dir); err != nil {
			return 1, err
		}
		if err := sweepKilledRuns(runsDir); err != nil {
			return 1, err
		}
	} else if CI {
		return 1, errors.New("cannot run without root in CI")
	}
	before := staleEntries()
	code = m.Run()
	if left := leftOnHost(dir, before); len(left) > 0 {
		return 1, fmt.Errorf("the tests left on the host:\n%s", strings.Join(left, "\n"))
	}
	return code, nil
}

// Run runs a command in the repository. The error holds its output.
func Run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = Programs.Repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "PACKER_PLUGIN_PATH="+Programs.Plugins, "PACKER_CONFIG_DIR="+filepath.Dir(Programs.Plugins), "CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// Plugin returns the path of a builder's plugin program.
func (p Installed) Plugin(f Flavor) string {
	return filepath.Join(filepath.Dir(p.Loopcloud), "packer-plugin-"+f.Name)
}

// Only returns a PACKER_PLUGIN_PATH that holds a builder's plugin alone.
func (p Installed) Only(f Flavor) string { return p.Plugins + "-" + f.Name }

// NeedRoot skips a test without root privileges, or fails it in CI.
func NeedRoot(t testing.TB) {
	t.Helper()
	testroot.Need(t, "block devices and mounts")
}
