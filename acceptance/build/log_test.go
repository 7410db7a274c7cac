package build

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestLogShowsTheBuild checks that PACKER_LOG=1 logs each step, call, wait, mount and command,
// and does not change the output on the terminal.
func TestLogShowsTheBuild(t *testing.T) {
	harness.Both(t, func(t *testing.T, f harness.Flavor) {
		b := harness.New(t)
		before := b.Inventory()
		log := filepath.Join(b.Dir, "packer.log")
		b.Env = append(b.Env, "PACKER_LOG=1", "PACKER_LOG_PATH="+log)
		b.Control("POST", "faults", map[string]any{"action": f.Action("AttachVolume"), "error": "throttled", "times": 1}, nil)
		out := b.Build(b.Template(f.Basic(map[string]any{"pre_mount_commands": []string{"true before"}}), harness.Shell("WHISPERED='a secret of mine' true inside")))
		text := harness.Read(log)
		if dump := os.Getenv("LOG_TEST_DUMP"); dump != "" {
			b.Must(os.WriteFile(dump+"-"+f.Name, []byte(text), 0o600))
		}
		attach := f.Action("AttachVolume")
		for _, line := range []string{
			`call \S+ ` + attach + `: attempt 1(, request \S+)?, \S+, failed: `,
			`call \S+ ` + attach + `: attempt 2 after \S+, request \S+, \S+, `,
			`wait for volume vol-\S+: available, look \d+, \S+, done`,
			`wait for snapshot snap-\S+: completed`,
			`wait for image ami-\S+: available`,
			`step mount root, \S+, ok`,
			`mount /dev/\S+ on /\S+, type ext4, .*ok`,
			`mount proc on /\S+/proc, type proc`,
			`unmount /\S+, \S+, ok`,
			`command in the host: true before: status 0`,
			`command in the chroot: .*script_\d+\.sh: status 0`,
		} {
			if !regexp.MustCompile(`\[INFO\] ` + line).MatchString(text) {
				t.Errorf("the log does not show %q", line)
			}
		}
		if strings.Contains(out, "[INFO]") || strings.Contains(text, harness.Secret) || strings.Contains(text, "a secret of mine") {
			t.Error("the log is on the terminal, or shows a secret")
		}
		b.Remove(b.Made().ID)
		b.Unchanged(before)
	})
}
