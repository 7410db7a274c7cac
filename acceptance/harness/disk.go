package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Disk exports an image's disk.
func (b *Cloud) Disk(id string) string {
	b.Helper()
	path := filepath.Join(b.Dir, id+".raw")
	b.Loopcloud("image", "export", "--endpoint", b.Endpoint, id, path)
	return path
}

// Debugfs runs a debugfs request on the ext4 file system at an offset of a disk. The test fails if debugfs prints an
// error, for its exit status is always 0.
func (b *Cloud) Debugfs(disk string, offset int, request string) string {
	b.Helper()
	out, complaint := b.askDebugfs(disk, offset, request)
	if complaint != "" {
		b.Fatalf("debugfs %s: %s", request, complaint)
	}
	return out
}

// askDebugfs returns the output of debugfs and its error message.
func (b *Cloud) askDebugfs(disk string, offset int, request string) (out, complaint string) {
	b.Helper()
	where := disk
	if offset > 0 {
		where = fmt.Sprintf("%s?offset=%d", disk, offset)
	}
	cmd := exec.Command("debugfs", "-R", request, where)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.Fatalf("debugfs %s: %v\n%s", request, err, &stderr)
	}
	_, complaint, _ = strings.Cut(stderr.String(), "\n") // the first line is its version
	return stdout.String(), strings.TrimSpace(complaint)
}

// Content reads a file of the first partition of an image.
func (b *Cloud) Content(disk, path string) string {
	b.Helper()
	return b.Debugfs(disk, 1<<20, "cat "+path)
}

// Has reports whether the first partition of an image has a file.
func (b *Cloud) Has(disk, path string) bool {
	b.Helper()
	_, complaint := b.askDebugfs(disk, 1<<20, "stat "+path)
	if complaint != "" && !strings.Contains(complaint, "File not found") {
		b.Fatalf("debugfs cannot look for %s: %s", path, complaint)
	}
	return complaint == ""
}

// FileSize returns the size of a file in bytes.
func FileSize(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
