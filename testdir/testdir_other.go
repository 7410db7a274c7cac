//go:build !linux

package testdir

import "testing"

// New returns a new empty directory that is removed when the test and its subtests are
// complete. Tests that mount run on Linux only.
func New(t testing.TB) string {
	t.Helper()
	return t.TempDir()
}
