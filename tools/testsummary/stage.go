package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An event is one line of `go test -json`, see `go doc test2json`.
type event struct {
	Time       time.Time
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
	// FailedBuild is set on the failure of a package that was not built.
	FailedBuild string
}

// A stage is one run of go test over some packages.
type stage struct {
	out      io.Writer
	verbose  bool
	packages []*packageRun
	// broken holds the packages that do not compile.
	broken []string
}

func newStage(out io.Writer, verbose bool) *stage { return &stage{out: out, verbose: verbose} }

// read reads events until their end. A line that is not an event is printed.
func (s *stage) read(events io.Reader) error {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		var e event
		switch {
		case line == "":
		case json.Unmarshal([]byte(line), &e) != nil || e.Action == "":
			fmt.Fprint(s.out, line)
		default:
			s.take(e)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *stage) take(e event) {
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "build-fail":
		s.broken = append(s.broken, e.ImportPath)
	default:
		s.named(e.Package).take(e, s.out, s.verbose)
	}
}

// named returns the run of the package with this import path.
func (s *stage) named(path string) *packageRun {
	for _, p := range s.packages {
		if p.path == path {
			return p
		}
	}
	p := &packageRun{path: path, tests: map[string]*test{}}
	s.packages = append(s.packages, p)
	return p
}

// summary returns a few lines on each package that failed, or "" if none did.
func (s *stage) summary() string {
	var out strings.Builder
	for _, path := range s.broken {
		fmt.Fprintf(&out, "  %s does not compile\n", path)
	}
	for _, p := range s.packages {
		if !p.unbuilt && (p.result == "" || p.result == "fail") {
			out.WriteString(p.summary())
		}
	}
	if len(s.packages) == 0 && out.Len() == 0 {
		return "  no test ran\n"
	}
	return out.String()
}

// A packageRun is the run of one package's tests.
type packageRun struct {
	path  string
	tests map[string]*test
	names []string
	// lines holds the output until the result is known.
	lines []line
	// result is "pass", "fail", "skip", or "" while the package runs.
	result string
	// unbuilt is true if the tests were not run because they do not compile.
	unbuilt bool
	// crash is the line with the reason why the test program ended early.
	crash string
	last  time.Time
}

// A line is a line of output of a test, or of the test program if test is nil.
type line struct {
	test *test
	text string
}

// A test is one test or subtest.
type test struct {
	name    string
	state   string // the last action: run, pause, cont, pass, fail or skip
	since   time.Time
	elapsed float64
	// complaint is the first line of output that names a file.
	complaint string
}

var (
	crashLine     = regexp.MustCompile(`^(panic: |fatal error: |signal: |\*\*\* Test killed)`)
	complaintLine = regexp.MustCompile(`^\s+\w+\.go:\d+: `)
)

func (p *packageRun) take(e event, out io.Writer, verbose bool) {
	if p.crash == "" {
		p.last = e.Time // the report of a crash is long and takes its time
	}
	switch {
	case e.Action == "output":
		p.output(e, out, verbose)
	case e.Test != "":
		t := p.test(e.Test)
		t.state, t.elapsed = e.Action, e.Elapsed
		if e.Action == "run" || e.Action == "cont" {
			t.since = e.Time
		}
	case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
		p.result, p.unbuilt = e.Action, e.FailedBuild != ""
		p.print(out, verbose)
	}
}

func (p *packageRun) test(name string) *test {
	if p.tests[name] == nil {
		p.tests[name] = &test{name: name}
		p.names = append(p.names, name)
	}
	return p.tests[name]
}

func (p *packageRun) output(e event, out io.Writer, verbose bool) {
	l := line{text: e.Output}
	if e.Test != "" {
		l.test = p.test(e.Test)
		if l.test.complaint == "" && complaintLine.MatchString(e.Output) {
			l.test.complaint = strings.TrimSpace(e.Output)
		}
	}
	if p.crash == "" && crashLine.MatchString(e.Output) {
		p.crash = strings.TrimSpace(e.Output)
	}
	if verbose {
		fmt.Fprint(out, e.Output)
		return
	}
	p.lines = append(p.lines, l)
}

// print prints the output of a package that has ended: the line with the result and, if it failed, the output of every
// test that has not passed.
func (p *packageRun) print(out io.Writer, verbose bool) {
	for _, l := range p.lines {
		switch {
		case verbose:
		case p.result != "fail" && !isResult(l):
		case l.test != nil && (l.test.state == "pass" || l.test.state == "skip" || strings.HasPrefix(l.text, "=== ")):
		default:
			fmt.Fprint(out, l.text)
		}
	}
	p.lines = nil
}

// isResult reports whether a line is the result of a package that passed.
func isResult(l line) bool {
	return l.test == nil && (strings.HasPrefix(l.text, "ok  ") || strings.HasPrefix(l.text, "?   "))
}

// summary returns a few lines: how the package failed, and which tests failed or were running.
func (p *packageRun) summary() string {
	var out strings.Builder
	switch {
	case p.crash != "":
		fmt.Fprintf(&out, "  %s: %s\n", p.path, p.crash)
	case p.result == "":
		fmt.Fprintf(&out, "  %s has not ended\n", p.path)
	default:
		fmt.Fprintf(&out, "  %s failed\n", p.path)
	}
	for _, t := range p.innermost(func(t *test) bool { return t.state == "fail" }) {
		fmt.Fprintf(&out, "    failed after %.1fs: %s\n", t.elapsed, t.name)
		if t.complaint != "" {
			fmt.Fprintf(&out, "      %s\n", t.complaint)
		}
	}
	for _, t := range p.innermost(func(t *test) bool { return t.state == "run" || t.state == "cont" }) {
		fmt.Fprintf(&out, "    running for %s: %s\n", p.last.Sub(t.since).Round(time.Second), t.name)
	}
	if n := len(p.innermost(func(t *test) bool { return t.state == "pause" })); n > 0 {
		fmt.Fprintf(&out, "    %d tests were waiting for their turn\n", n)
	}
	return out.String()
}

// innermost returns the tests that meet a condition, without those that have such a subtest.
func (p *packageRun) innermost(is func(*test) bool) (all []*test) {
	for _, name := range p.names {
		t := p.tests[name]
		hasSub := slices.ContainsFunc(p.names, func(other string) bool {
			return strings.HasPrefix(other, name+"/") && is(p.tests[other])
		})
		if is(t) && !hasSub {
			all = append(all, t)
		}
	}
	return all
}
