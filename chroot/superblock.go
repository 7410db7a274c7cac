package chroot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// magic is what tells what a device holds.
type magic struct {
	kind   string
	offset int64
	bytes  string
}

// fileSystems are tried in order, under the kernel's names of their types. The
// offsets are of the superblocks' descriptions in the kernel's Documentation/filesystems
// and headers.
var fileSystems = []magic{
	{"xfs", 0, "XFSB"},
	{"ext4", 0x438, "\x53\xef"}, // mounts ext2 and ext3 too
	{"btrfs", 0x10040, "_BHRfS_M"},
	{"f2fs", 0x400, "\x10\x20\xf5\xf2"},
	{"erofs", 0x400, "\xe2\xe1\xf5\xe0"},
	{"squashfs", 0, "hsqs"},
	{"vfat", 0x52, "FAT32"},
	{"vfat", 0x36, "FAT1"},
	{"exfat", 3, "EXFAT   "},
	{"ntfs3", 3, "NTFS    "},
	{"iso9660", 0x8001, "CD001"},
	{"jfs", 0x8000, "JFS1"},
	{"nilfs2", 0x406, "\x34\x34"},
	{"bcachefs", 0x1018, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"},
}

// others are worth naming when someone takes them for a file system.
var others = []magic{
	{"a LUKS container", 0, "LUKS\xba\xbe"},
	{"an LVM physical volume", 0x218, "LVM2 001"},
	{"swap space", 0xff6, "SWAPSPACE2"},
	{"a GPT partition table", 0x200, "EFI PART"},
	{"an MBR partition table", 0x1fe, "\x55\xaa"},
}

// fileSystemOn answers the type of the file system that a device holds.
func fileSystemOn(device io.ReaderAt) (string, error) {
	kind, err := firstOf(fileSystems, device)
	if kind != "" || err != nil {
		return kind, err
	}
	kind, err = firstOf(others, device)
	if err != nil {
		return "", err
	}
	if kind != "" {
		return "", fmt.Errorf("it holds %s, not a file system", kind)
	}
	return "", errors.New("it holds no file system that is known here")
}

func firstOf(list []magic, device io.ReaderAt) (string, error) {
	for _, m := range list {
		got := make([]byte, len(m.bytes))
		n, err := device.ReadAt(got, m.offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if n == len(got) && bytes.Equal(got, []byte(m.bytes)) {
			return m.kind, nil
		}
	}
	return "", nil
}
