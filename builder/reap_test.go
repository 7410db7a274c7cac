package builder_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// hosted is a cloud that knows only its host.
type hosted struct{ bake.Cloud }

func (hosted) Host(context.Context) (bake.Host, error) { return facts.Host, nil }

// reap runs the command, with a cloud that is reached or not.
func reap(t *testing.T, connect error, args ...string) (status int, stdout, stderr string, reach []builder.Reach) {
	t.Helper()
	var out, errs bytes.Buffer
	status = builder.Reaper{
		Program: "packer-plugin-test", Kind: kind, Host: builder.Host{GOOS: "linux", Machine: anyMachine},
		Connect: func(_ context.Context, to builder.Reach) (builder.Session, error) {
			reach = append(reach, to)
			return builder.Session{Cloud: hosted{}, Endpoint: "http://user:pass@here?key=value"}, connect
		},
	}.Run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String(), reach
}

// journals is a directory that holds one torn journal.
func journals(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testdir.New(t), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "BUILD1.journal"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReapCommandLine(t *testing.T) {
	empty := testdir.New(t)
	tests := []struct {
		name           string
		args           []string
		connect        error
		status         int
		stdout, stderr string
	}{
		{name: "help", args: []string{"--help"}, status: builder.ReapClean, stdout: "--dry-run"},
		{name: "help describes each flag", args: []string{"--help"}, status: builder.ReapClean, stdout: "  --state-dir DIR         the directory of the builds' journals\n"},
		{name: "help names the directory", args: []string{"-h"}, status: builder.ReapClean, stdout: "PACKER_CHROOT_STATE_DIR"},
		{name: "an unknown flag", args: []string{"--force"}, status: builder.ReapUsage, stderr: "-force"},
		{name: "an argument", args: []string{"everything"}, status: builder.ReapUsage, stderr: `"everything" is one argument too many`},
		{name: "nothing to reap", args: []string{"--state-dir", filepath.Join(empty, "missing")}, connect: errors.New("never asked")},
		{name: "nothing to reap, as JSON", args: []string{"--json", "--state-dir", filepath.Join(empty, "missing")}, stdout: "[]"},
		{name: "no cloud", args: []string{"--state-dir", journals(t)}, connect: errors.New("no keys"), status: builder.ReapLeft, stderr: "no keys"},
		{name: "something is left", args: []string{"--state-dir", journals(t)}, status: builder.ReapLeft, stdout: "build BUILD1: unreadable; build BUILD1: the journal is damaged"},
		{name: "a dry run", args: []string{"--dry-run", "--state-dir", journals(t)}, status: builder.ReapLeft, stdout: "build BUILD1: unreadable"},
		{name: "nothing to forget", args: []string{"--forget", "BUILD9", "--state-dir", journals(t)}, status: builder.ReapLeft, stderr: "no journal of build BUILD9"},
		{name: "forget no build", args: []string{"--forget", ""}, status: builder.ReapUsage, stderr: "--forget needs the id of a build"},
		{name: "forget what is no build", args: []string{"--forget", "../BUILD1", "--state-dir", journals(t)}, status: builder.ReapLeft, stderr: `"../BUILD1" is not the id of a build`},
		{name: "forget a damaged journal", args: []string{"--forget", "BUILD1", "--state-dir", journals(t)}, connect: errors.New("never asked"), stdout: "build BUILD1: forgotten; the journal is damaged"},
		{name: "no directory", args: []string{"--state-dir", "/dev/null"}, status: builder.ReapLeft, stderr: "/dev/null"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, stdout, stderr, _ := reap(t, test.connect, test.args...)
			if status != test.status || !strings.Contains(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) ||
				(test.stderr == "" && stderr != "") || (test.stdout == "" && stdout != "") {
				t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
			}
		})
	}
}

// written is an act in the form of its journal record.
type written map[string]any

func (written) String() string { return "act" }

// remembered returns a directory with the journal of a running build that has a volume, and
// its ledger.
func remembered(t *testing.T) (dir string, l *undo.Ledger[written]) {
	t.Helper()
	dir = filepath.Join(testdir.New(t), "state")
	l = undo.New[written](nil)
	if err := l.Begin(dir, undo.Header{Build: "BUILD1", Program: "another-chroot", Region: "there"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Arm("scaffold", written{"kind": "volume", "build": "BUILD1", "volume": "vol-1", "answered": true}); err != nil {
		t.Fatal(err)
	}
	return dir, l
}

// TestReapForget removes the journal of one build of any region, and names its resources.
func TestReapForget(t *testing.T) {
	dir, j := remembered(t)
	args := []string{"--forget", "BUILD1", "--state-dir", dir, "--json"}
	status, stdout, stderr, reach := reap(t, nil, args...)
	if status != builder.ReapLeft || stdout != "" || !strings.Contains(stderr, "build BUILD1 is running") {
		t.Errorf("a running build: %d\n%s\n%s", status, stdout, stderr)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		args   []string
		status int
		fate   bake.Fate
		left   int
	}{
		{append(args, "--dry-run"), builder.ReapLeft, bake.Due, 1},
		{args, builder.ReapClean, bake.Forgotten, 0},
	} {
		status, stdout, stderr, more := reap(t, errors.New("never asked"), step.args...)
		var all []bake.Remains
		if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 1 {
			t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
		}
		if status != step.status || all[0].Fate != step.fate || all[0].Region != "there" || !slices.Equal(all[0].Pending, []string{"volume vol-1"}) {
			t.Errorf("status %d, %+v", status, all[0])
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != step.left {
			t.Errorf("%v: journals %v, %v", step.fate, left, err)
		}
		reach = append(reach, more...)
	}
	if len(reach) > 0 {
		t.Errorf("a cloud was reached: %v", reach)
	}
}

// TestReapOnlyRunningBuilds checks that if all builds are running, no request is made to a
// cloud.
func TestReapOnlyRunningBuilds(t *testing.T) {
	dir, j := remembered(t)
	defer j.Close()
	status, stdout, stderr, reach := reap(t, errors.New("never asked"), "--state-dir", dir)
	if status != builder.ReapClean || !strings.Contains(stdout, "build BUILD1") || !strings.Contains(stdout, "living") || len(reach) > 0 {
		t.Errorf("status %d, reached %v\n%s\n%s", status, reach, stdout, stderr)
	}
}

// TestReapReaches checks that the flags select how the cloud is reached.
func TestReapReaches(t *testing.T) {
	_, _, _, reach := reap(t, nil, "--state-dir", journals(t), "--region", "there", "--profile", "me", "--endpoint", "http://here")
	equal(t, "reach", reach, []builder.Reach{{Region: "there", Profile: "me", Endpoint: "http://here"}})
}

// TestReapJSON checks that the JSON output has the result of each build.
func TestReapJSON(t *testing.T) {
	dir := journals(t)
	t.Setenv("PACKER_CHROOT_STATE_DIR", dir)
	status, stdout, _, _ := reap(t, nil, "--json")
	var all []bake.Remains
	if err := json.Unmarshal([]byte(stdout), &all); err != nil {
		t.Fatal(err)
	}
	if status != builder.ReapLeft || len(all) != 1 || all[0].Build != "BUILD1" || all[0].Fate != bake.Unreadable ||
		all[0].Journal != filepath.Join(dir, "BUILD1.journal") || !strings.Contains(all[0].Problem, "BUILD1.torn") {
		t.Errorf("status %d, %s", status, stdout)
	}
}

// TestStateDir checks that journals are kept in the directory that the user sets, or in the
// default directory.
func TestStateDir(t *testing.T) {
	for _, test := range []struct{ name, env, xdg, want string }{
		{"the user's", "/there", "/xdg", "/there"},
		{"root's", "", "/xdg", "/var/lib/packer-chroot"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.env == "" && os.Geteuid() != 0 {
				test.want = filepath.Join(test.xdg, "packer-chroot")
			}
			t.Setenv("PACKER_CHROOT_STATE_DIR", test.env)
			t.Setenv("XDG_STATE_HOME", test.xdg)
			var plan bake.Plan
			j := job(t, nil)
			j.Connect = func(context.Context, func(string, ...any)) (builder.Session, error) {
				return builder.Session{Endpoint: "https://user:pass@here/api?secret=1"}, nil
			}
			_, err := build(t.Context(), t, &screen{}, noProvisioner, j, func(_ context.Context, p bake.Plan, _ bake.Reporter) error {
				plan = p
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if plan.StateDir != test.want || plan.Program != kind.Type || plan.Endpoint != "https://here/api" {
				t.Errorf("%q, %q, %q", plan.StateDir, plan.Program, plan.Endpoint)
			}
		})
	}
}

// TestReapSweepsSockets checks that Reap removes the socket of a build that was killed before
// its keeper started. Such a build has no journal.
func TestReapSweepsSockets(t *testing.T) {
	t.Setenv("TMPDIR", testdir.New(t))
	porch := filepath.Join(os.TempDir(), "packer-chroot-keeper-1")
	if err := os.Mkdir(porch, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--dry-run"}, nil} {
		status, _, stderr, _ := reap(t, nil, append(args, "--state-dir", testdir.New(t))...)
		_, err := os.Stat(porch)
		if status != builder.ReapClean || (err == nil) != (args != nil) {
			t.Errorf("reap %q ends with %d, says %q, and then %s: %v", args, status, stderr, porch, err)
		}
	}
}
