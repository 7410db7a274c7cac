package acceptance

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLogShowsTheBuild: PACKER_LOG=1 shows each call, wait, mount and command, and
// nothing on the terminal's side changes.
func TestLogShowsTheBuild(t *testing.T) {
	both(t, func(t *testing.T, f flavor) {
		b := newBox(t)
		before := b.inventory()
		log := filepath.Join(b.dir, "packer.log")
		b.env = append(b.env, "PACKER_LOG=1", "PACKER_LOG_PATH="+log)
		b.control("POST", "faults", map[string]any{"action": f.nameOf("AttachVolume"), "error": "throttled", "times": 1}, nil)
		out := b.build(b.template(f.basic(map[string]any{"pre_mount_commands": []string{"true before"}}), shell("WHISPERED='a secret of mine' true inside")))
		text := read(log)
		if dump := os.Getenv("LOG_TEST_DUMP"); dump != "" {
			b.must(os.WriteFile(dump+"-"+f.name, []byte(text), 0o600))
		}
		attach := f.nameOf("AttachVolume")
		for _, line := range []string{
			`call \S+ ` + attach + `: attempt 1(, request \S+)?, \S+, failed: `,
			`call \S+ ` + attach + `: attempt 2 after \S+, request \S+, \S+, `,
			`wait for volume vol-\S+: available, look \d+, \S+, done`,
			`wait for snapshot snap-\S+: completed`,
			`wait for image ami-\S+: available`,
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
		if strings.Contains(out, "[INFO]") || strings.Contains(text, secret) || strings.Contains(text, "a secret of mine") {
			t.Error("the log is on the terminal, or shows a secret")
		}
		b.remove(b.made().ID)
		b.unchanged(before)
	})
}
