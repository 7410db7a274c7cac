// Package testroot skips tests that need root privileges. In CI, where no test may be left
// out, it fails them instead.
package testroot

import (
	"os"
	"testing"
)

// Need skips a test without root privileges, or fails it if the environment variable CI is
// "true". purpose is the part of the test that needs them, such as "mounting".
func Need(t testing.TB, purpose string) {
	t.Helper()
	need(t, purpose, os.Geteuid(), os.Getenv("CI") == "true")
}

func need(t testing.TB, purpose string, user int, ci bool) {
	t.Helper()
	switch {
	case user == 0:
	case ci:
		t.Fatalf("needs root: %s", purpose)
	default:
		t.Skipf("needs root: %s", purpose)
	}
}
