package superblock_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/disk/superblock"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// blank is a device of a MiB with something at an offset.
func blank(offset int, content string) []byte {
	device := make([]byte, 1<<20)
	copy(device[offset:], content)
	return device
}

func TestFileSystem(t *testing.T) {
	tests := []struct {
		name   string
		device []byte
		kind   string
		says   string
	}{
		{name: "vfat", device: blank(0x52, "FAT32   "), kind: "vfat"},
		{name: "old vfat", device: blank(0x36, "FAT16   "), kind: "vfat"},
		{name: "squashfs", device: blank(0, "hsqs"), kind: "squashfs"},
		{name: "erofs", device: blank(0x400, "\xe2\xe1\xf5\xe0"), kind: "erofs"},
		{name: "blank", device: blank(0, ""), says: "no file system"},
		{name: "empty", says: "no file system"},
		{name: "short", device: []byte("XF"), says: "no file system"},
		{name: "LUKS", device: blank(0, "LUKS\xba\xbe\x00\x02"), says: "LUKS"},
		{name: "LVM", device: blank(0x218, "LVM2 001"), says: "LVM"},
		{name: "MBR", device: blank(0x1fe, "\x55\xaa"), says: "MBR partition table"},
		{name: "GPT", device: blank(0x1fe, "\x55\xaaEFI PART"), says: "GPT partition table"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			kind, err := superblock.FileSystem(bytes.NewReader(test.device))
			if kind != test.kind || (err == nil) != (test.says == "") || (err != nil && !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%q, %v, want %q, %q", kind, err, test.kind, test.says)
			}
		})
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestFileSystemOnABrokenDevice(t *testing.T) {
	if kind, err := superblock.FileSystem(broken{}); err == nil || kind != "" {
		t.Errorf("%q, %v", kind, err)
	}
}

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		mkfs       []string
		kind       string
		fileSystem bool
	}{
		{[]string{"mkfs.ext4", "-q", "-L", "a label", "-U", "0e7a1a2b-0000-4000-8000-0123456789ab"}, "ext4", true},
		{[]string{"mkfs.xfs", "-q", "-L", "a-label", "-m", "uuid=0e7a1a2b-0000-4000-8000-0123456789ab"}, "xfs", true},
		{[]string{"mkfs.btrfs", "-q", "-L", "a label", "-U", "0e7a1a2b-0000-4000-8000-0123456789ab"}, "btrfs", true},
		{[]string{"mkswap", "-L", "a label", "-U", "0e7a1a2b-0000-4000-8000-0123456789ab"}, "swap", false},
		{[]string{"mkfs.vfat", "-n", "A LABEL", "-i", "12ab34cd"}, "vfat", true},
		{[]string{"mkfs.vfat", "-F", "32", "-n", "A LABEL", "-i", "12ab34cd"}, "vfat", true},
	} {
		t.Run(strings.Join(tt.mkfs, " "), func(t *testing.T) {
			file := filepath.Join(testdir.New(t), "fs")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, 320<<20); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tt.mkfs[0], append(tt.mkfs[1:], file)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", tt.mkfs, err, out)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			want := superblock.Content{Type: tt.kind, UUID: "0e7a1a2b-0000-4000-8000-0123456789ab", Label: "a label", FileSystem: tt.fileSystem}
			switch tt.kind {
			case "vfat":
				want.UUID, want.Label = "12AB-34CD", "A LABEL"
			case "xfs":
				want.Label = "a-label"
			case "btrfs":
				want.Devices = 1
			}
			got, err := superblock.Read(f)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("XFSB"), int64(0))
	f.Add([]byte("\x53\xef"), int64(0x438))
	f.Add([]byte("\x10\x20\xf5\xf2"), int64(0x400))
	f.Fuzz(func(t *testing.T, raw []byte, at int64) {
		if at < 0 || at > 1<<20 {
			return
		}
		content := append(make([]byte, at), raw...)
		c, err := superblock.Read(strings.NewReader(string(content)))
		if err != nil {
			t.Error(err)
		}
		if c.Type == "" && c != (superblock.Content{}) {
			t.Errorf("something of nothing: %+v", c)
		}
	})
}
