// Package superblock identifies the content of a block device, or of a part of one: its
// file system with UUID and label, or another format. It searches for the formats' magic
// numbers, and trusts nothing beyond them.
package superblock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"
)

// Content is the content of a partition or a disk, according to its superblock.
type Content struct {
	// Type is the kernel's name of the file system's type, or the usual name of another
	// format, such as swap. It is empty if the content is not known.
	Type string
	// UUID and Label are in the form of blkid; empty if there is none.
	UUID, Label string
	// FileSystem reports whether it is a file system, and not, for example, swap space.
	FileSystem bool
	// Devices is the number of devices that a btrfs has, all with its UUID and
	// label; it is 0 for other types.
	Devices uint64
}

// unixLike are the types of file system that can hold a root: they have owners, modes and
// links.
var unixLike = []string{"ext4", "xfs", "btrfs", "f2fs", "erofs", "squashfs", "jfs", "nilfs2", "bcachefs"}

// CanBeRoot reports whether the content can be a root file system at all.
func (c Content) CanBeRoot() bool { return slices.Contains(unixLike, c.Type) }

// superblock holds the offsets of a format's fields, in bytes from the beginning; 0 if it
// has no UUID or label.
type superblock struct {
	kind   string
	at     int64
	magic  string
	uuid   int64
	label  int64
	length int
	// identity formats the bytes at uuid; nil means a UUID of 16 bytes.
	identity   func([]byte) string
	fileSystem bool
}

// superblocks are tried in order. The offsets are those of the kernel's headers
// and of Documentation/filesystems.
var superblocks = []superblock{
	{kind: "xfs", magic: "XFSB", uuid: 0x20, label: 0x6c, length: 12, fileSystem: true},
	{kind: "ext4", at: 0x438, magic: "\x53\xef", uuid: 0x468, label: 0x478, length: 16, fileSystem: true}, // ext2 and ext3 too
	{kind: "btrfs", at: 0x10040, magic: "_BHRfS_M", uuid: 0x10020, label: 0x1012b, length: 256, fileSystem: true},
	{kind: "f2fs", at: 0x400, magic: "\x10\x20\xf5\xf2", uuid: 0x46c, fileSystem: true},
	{kind: "erofs", at: 0x400, magic: "\xe2\xe1\xf5\xe0", uuid: 0x430, label: 0x440, length: 16, fileSystem: true},
	{kind: "squashfs", magic: "hsqs", fileSystem: true},
	{kind: "vfat", at: 0x52, magic: "FAT32", uuid: 0x43, label: 0x47, length: 11, identity: serialNumber, fileSystem: true},
	{kind: "vfat", at: 0x36, magic: "FAT1", uuid: 0x27, label: 0x2b, length: 11, identity: serialNumber, fileSystem: true},
	{kind: "exfat", at: 3, magic: "EXFAT   ", uuid: 0x64, identity: serialNumber, fileSystem: true},
	{kind: "ntfs3", at: 3, magic: "NTFS    ", fileSystem: true},
	{kind: "iso9660", at: 0x8001, magic: "CD001", label: 0x8028, length: 32, fileSystem: true},
	{kind: "jfs", at: 0x8000, magic: "JFS1", uuid: 0x8088, label: 0x8098, length: 16, fileSystem: true},
	{kind: "nilfs2", at: 0x406, magic: "\x34\x34", uuid: 0x498, label: 0x4a8, length: 80, fileSystem: true},
	{kind: "bcachefs", at: 0x1018, magic: "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", uuid: 0x1038, label: 0x1048, length: 32, fileSystem: true},
	{kind: "LUKS", magic: "LUKS\xba\xbe"},
	{kind: "LVM", at: 0x218, magic: "LVM2 001"},
	{kind: "swap", at: 0xff6, magic: "SWAPSPACE2", uuid: 0x40c, label: 0x41c, length: 16},
}

// Read returns the content of a device, or of a part of one. Unknown content is not an
// error.
func Read(r io.ReaderAt) (Content, error) {
	for _, s := range superblocks {
		found, err := readAt(r, s.at, len(s.magic))
		if err != nil {
			return Content{}, err
		}
		if bytes.Equal(found, []byte(s.magic)) {
			return s.read(r)
		}
	}
	return Content{}, nil
}

// FileSystem returns the kernel's name of the file system on a device. It returns an
// error if there is none.
func FileSystem(r io.ReaderAt) (string, error) {
	c, err := Read(r)
	switch {
	case err != nil:
		return "", err
	case c.Type == "":
		return "", noFileSystem(r)
	case !c.FileSystem:
		return "", fmt.Errorf("it holds %s, not a file system", c.Type)
	}
	return c.Type, nil
}

// noFileSystem is the error for a device without one. It names a partition table, because
// then a partition was probably meant.
func noFileSystem(r io.ReaderAt) error {
	for _, table := range []superblock{
		{kind: "a GPT partition table", at: 0x200, magic: "EFI PART"},
		{kind: "an MBR partition table", at: 0x1fe, magic: "\x55\xaa"},
	} {
		if found, err := readAt(r, table.at, len(table.magic)); err == nil && string(found) == table.magic {
			return fmt.Errorf("it holds %s, not a file system", table.kind)
		}
	}
	return errors.New("it holds no file system that is known here")
}

// read parses the superblock.
func (s superblock) read(r io.ReaderAt) (Content, error) {
	c := Content{Type: s.kind, FileSystem: s.fileSystem}
	if s.uuid > 0 {
		raw, err := readAt(r, s.uuid, 16)
		if err != nil {
			return Content{}, err
		}
		c.UUID = s.identify(raw)
	}
	if s.label > 0 {
		raw, err := readAt(r, s.label, s.length)
		if err != nil {
			return Content{}, err
		}
		c.Label = label(raw)
	}
	if s.kind == "f2fs" {
		raw, err := readAt(r, 0x47c, 1024)
		if err != nil {
			return Content{}, err
		}
		c.Label = UTF16(raw)
	}
	if s.kind == "btrfs" {
		raw, err := readAt(r, 0x10088, 8)
		if err != nil {
			return Content{}, err
		}
		c.Devices = binary.LittleEndian.Uint64(append(raw, make([]byte, 8)...))
	}
	return c, nil
}

func (s superblock) identify(raw []byte) string {
	if len(raw) < 16 || bytes.Equal(raw, make([]byte, 16)) {
		return ""
	}
	if s.identity != nil {
		return s.identity(raw)
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:16])
}

// serialNumber formats the identity of a FAT: 4 bytes, little-endian.
func serialNumber(raw []byte) string {
	n := binary.LittleEndian.Uint32(raw)
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
}

// label returns a label that ends with a NUL, or with blanks as in a FAT.
func label(raw []byte) string {
	if i := bytes.IndexByte(raw, 0); i >= 0 {
		raw = raw[:i]
	}
	if s := strings.TrimRight(string(raw), " "); s != "NO NAME" {
		return s
	}
	return ""
}

// UTF16 decodes little-endian UTF-16 up to its NUL, without an incomplete rest: the form
// of names in a GPT and of f2fs's labels.
func UTF16(raw []byte) string {
	var units []uint16
	for ; len(raw) >= 2; raw = raw[2:] {
		u := binary.LittleEndian.Uint16(raw)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// readAt reads up to the end of the device.
func readAt(r io.ReaderAt, at int64, length int) ([]byte, error) {
	buf := make([]byte, length)
	n, err := r.ReadAt(buf, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read what it holds: %w", err)
	}
	return buf[:n], nil
}
