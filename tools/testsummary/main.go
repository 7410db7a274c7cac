// Command testsummary reads the events of `go test -json` from its standard input, prints the output of `go test`, and
// writes a summary to a file if the tests failed. tools/test.sh prints the summaries of all stages at the very end, because
// the output of failed tests, above all the goroutines after a timeout, is thousands of lines long.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go test -json ... | testsummary STAGE FILE")
		os.Exit(2)
	}
	// Ctrl-C ends go test, but its last events are still read
	signal.Ignore(os.Interrupt, syscall.SIGTERM)
	if err := summarize(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
}

// summarize reads the events of a stage and writes a file if the stage failed.
func summarize(stage, file string) error {
	verbose := slices.Contains(strings.Fields(os.Getenv("GOFLAGS")), "-v")
	s := newStage(os.Stdout, verbose)
	if err := s.read(os.Stdin); err != nil {
		return err
	}
	summary := s.summary()
	if summary == "" {
		return nil
	}
	if err := os.WriteFile(file, []byte(stage+" failed\n"+summary), 0o600); err != nil {
		return err
	}
	return fmt.Errorf("%s failed", stage)
}
