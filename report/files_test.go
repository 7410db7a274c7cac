package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestPathsThatCannotBeWritten(t *testing.T) {
	dir := testdir.New(t)
	for _, sub := range []string{"dir.html", "other.json"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/nowhere", filepath.Join(dir, "link.html")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"report.htm":          "does not end with",
		".html":               "does not end with",
		"x/.html":             "does not end with",
		"missing/report.html": "no such file",
		"dir.html":            "not a regular file",
		"other.html":          "not a regular file",
		"link.html":           "not a regular file",
		"/proc/report.html":   "/proc",
	} {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if err := Check(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestCheckLeavesNothing(t *testing.T) {
	dir := testdir.New(t)
	path := filepath.Join(dir, "report.html")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(path); err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "old" {
		t.Errorf("the old report is %q", text)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left %v", entries)
	}
	if err := (Report{}).Write(path); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("written %v", entries)
	}
}

// TestFailedWriteKeepsTheOldReport checks that a file that cannot be replaced is not damaged, and that no
// temporary file is left.
func TestFailedWriteKeepsTheOldReport(t *testing.T) {
	dir := testdir.New(t)
	path := filepath.Join(dir, "report.html")
	if err := os.Mkdir(path, 0o755); err != nil { // a rename over a directory fails
		t.Fatal(err)
	}
	if err := (Report{}).Write(path); err == nil {
		t.Error("written over a directory")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 3 {
		t.Errorf("there are %v", entries)
	}
}
