package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// The packages of a module whose tests end in every way.
var endings = map[string]string{
	"go.mod":        "module ends\n\ngo 1.24\n",
	"ok/ok_test.go": "package ok\n\nimport \"testing\"\n\nfunc TestFine(t *testing.T) { t.Log(\"not printed\") }\n",
	"bad/bad_test.go": `package bad

import "testing"

func TestFine(t *testing.T) { t.Log("not printed") }

func TestBad(t *testing.T) {
	t.Run("good", func(t *testing.T) { t.Log("not printed either") })
	t.Run("wrong", func(t *testing.T) { t.Error("got 1, want 2") })
}
`,
	"slow/slow_test.go": `package slow

import "testing"

func TestFine(t *testing.T) {}

func TestWaits(t *testing.T) {
	t.Run("for ever", func(t *testing.T) { select {} })
}
`,
	"dies/dies_test.go":     "package dies\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nfunc TestExits(t *testing.T) { os.Exit(3) }\n",
	"broken/broken_test.go": "package broken\n\nvar x int = \"text\"\n",
}

// module writes the packages of endings with these names, and returns the directory.
func module(t *testing.T, packages ...string) string {
	t.Helper()
	dir := testdir.New(t)
	for name, content := range endings {
		pkg, _, nested := strings.Cut(name, "/")
		if nested && !strings.Contains(strings.Join(packages, " "), pkg) {
			continue
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// summaryOf runs the tests of these packages, and returns what is printed and the summary.
func summaryOf(t *testing.T, packages ...string) (printed, summary string) {
	t.Helper()
	cmd := exec.Command("go", "test", "-json", "-count=1", "-timeout=4s", "./...")
	cmd.Dir = module(t, packages...)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	events, err := cmd.Output()
	if len(events) == 0 {
		t.Fatalf("go test: %v", err)
	}
	var out bytes.Buffer
	s := newStage(&out, false)
	if err := s.read(bytes.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	return out.String(), s.summary()
}

func TestSummaries(t *testing.T) {
	for _, test := range []struct {
		packages string
		summary  []string // regular expressions, one per line
		printed  string
	}{
		{"ok", nil, `^ok  \tends/ok\t\S+\n$`},
		{"ok bad", []string{`ends/bad failed`, `  failed after \S+s: TestBad/wrong`, `    bad_test.go:9: got 1, want 2`}, `got 1, want 2`},
		{"ok slow", []string{`ends/slow: panic: test timed out after 4s`, `  running for \d+s: TestWaits/for_ever`}, `goroutine \d+`},
		{"dies", []string{`ends/dies failed`, `  running for \d+s: TestExits`}, `FAIL\tends/dies`},
		{"broken ok", []string{`ends/broken \[ends/broken.test\] does not compile`}, `broken_test.go:3`},
	} {
		t.Run(test.packages, func(t *testing.T) {
			t.Parallel()
			printed, summary := summaryOf(t, strings.Fields(test.packages)...)
			var want strings.Builder
			for _, line := range test.summary {
				want.WriteString("  " + line + "\n")
			}
			if !regexp.MustCompile("^" + want.String() + "$").MatchString(summary) {
				t.Errorf("summary\n%s\nwant\n%s", summary, want.String())
			}
			if !regexp.MustCompile(test.printed).MatchString(printed) || strings.Contains(printed, "not printed") {
				t.Errorf("printed\n%s\nwant %s", printed, test.printed)
			}
		})
	}
}

// TestNothingRan checks that a go test that fails before any test does not look like success.
func TestNothingRan(t *testing.T) {
	var out bytes.Buffer
	s := newStage(&out, false)
	if err := s.read(strings.NewReader("go: no such package\n")); err != nil {
		t.Fatal(err)
	}
	if s.summary() == "" || out.String() != "go: no such package\n" {
		t.Errorf("summary %q, printed %q", s.summary(), &out)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(`{"Action":"run","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: x\n"}` + "\n")
	f.Add(`{"Action":"fail","Package":"p"}` + "\n{}\nnot JSON")
	f.Fuzz(func(t *testing.T, events string) {
		// whatever came before it, a failure is in the summary
		events += "\n" + `{"Action":"fail","Package":"last"}` + "\n"
		var out bytes.Buffer
		s := newStage(&out, false)
		if err := s.read(strings.NewReader(events)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(s.summary(), "last") {
			t.Errorf("a failure without a summary: %q", events)
		}
	})
}
