package chroot

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// blank is a device of a MiB with something at an offset.
func blank(offset int, content string) []byte {
	device := make([]byte, 1<<20)
	copy(device[offset:], content)
	return device
}

func TestFileSystemOn(t *testing.T) {
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
		{name: "a table", device: blank(0x1fe, "\x55\xaa"), says: "MBR partition table"},
		{name: "a GPT", device: append(blank(0x1fe, "\x55\xaaEFI PART")[:0x400:0x400], make([]byte, 1<<16)...), says: "GPT partition table"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			kind, err := fileSystemOn(bytes.NewReader(test.device))
			if kind != test.kind || (err == nil) != (test.says == "") || (err != nil && !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%q, %v, want %q, %q", kind, err, test.kind, test.says)
			}
		})
	}
}

// TestFileSystemOnRealOnes asks what mkfs makes.
func TestFileSystemOnRealOnes(t *testing.T) {
	for kind, mkfs := range map[string][]string{
		"ext4": {"mkfs.ext2", "-q"}, "xfs": {"mkfs.xfs", "-q"}, "btrfs": {"mkfs.btrfs", "-q"},
	} {
		file := filepath.Join(t.TempDir(), "disk")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := f.Truncate(320 << 20); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(mkfs[0], append(mkfs[1:], file)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", mkfs, err, out)
		}
		if got, err := fileSystemOn(f); err != nil || got != kind {
			t.Errorf("%s makes %q, %v", mkfs[0], got, err)
		}
	}
}

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errors.New("input/output error") }

func TestFileSystemOnABrokenDevice(t *testing.T) {
	if kind, err := fileSystemOn(broken{}); err == nil || kind != "" {
		t.Errorf("%q, %v", kind, err)
	}
}
