package builder

import (
	"bytes"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/version"
)

// TestCommands checks that a user gets a message and Packer its protocol, and that an unknown
// command ends with status 2 and prints nothing on standard output.
func TestCommands(t *testing.T) {
	for _, test := range []struct {
		args           string
		status         int
		packers        bool
		stdout, stderr string
	}{
		{args: "--help", stdout: "reap"}, {args: "-h", stdout: "lists its options"}, {args: "help", stdout: "packer-plugin-test-chroot reap --help"},
		{args: "version", stdout: version.Plugin.FormattedVersion()}, {args: "--version", stdout: version.Plugin.FormattedVersion()},
		{args: "", status: 2, stderr: "Usage: packer-plugin-test-chroot"},
		{args: "raep", status: 2, stderr: `no command "raep"; --help lists`}, {args: "--force", status: 2, stderr: `"--force"`},
		{args: "describe", packers: true}, {args: "describe --protobuf", packers: true}, {args: "--protobuf describe", packers: true},
		{args: "start builder -packer-default-plugin-name- --protobuf", packers: true},
	} {
		var stdout, stderr bytes.Buffer
		status, answered := Plugin{Kind: Kind{Type: "test-chroot"}}.answer(strings.Fields(test.args), &stdout, &stderr)
		if status != test.status || answered == test.packers || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) ||
			(test.stdout == "" && stdout.Len() > 0) || (test.stderr == "" && stderr.Len() > 0) {
			t.Errorf("%q: status %d, answered %v\n%s\n%s", test.args, status, answered, &stdout, &stderr)
		}
	}
}
