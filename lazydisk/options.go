package lazydisk

import (
	"fmt"
	"os"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/fetch"
)

// Arg is the first argument of this program if it is started as a block server.
const Arg = "serve-lazy-disk"

// Options describe a disk.
type Options struct {
	// Size is the size in bytes, a multiple of block.Size. It may be larger than the source.
	Size int64
	// Empty is true for a disk without a source, which begins with zeros.
	Empty bool
	// Key identifies the source in the cache. It must be unique among all sources of all
	// clouds, such as aws/eu-west-1/snap-1. "" disables the cache.
	Key string
	// Cache is the cache. See cache.FromEnvironment for its defaults.
	Cache cache.Options
	// ScratchDir is the directory for changed blocks. "" is /var/tmp.
	ScratchDir string
	// Limits bound the attempts to fetch a block.
	Limits fetch.Limits
	// NoPrefetch disables the prefetches of sequential reads.
	NoPrefetch bool
	// Name identifies the disk among all disks of the host, for Release. "" is a random name.
	Name string
}

// NamePrefix begins the names of disks.
const NamePrefix = "lazydisk-"

// maxName is the longest name that the kernel stores with a loop device.
const maxName = 63

func (o *Options) check() error {
	if o.Size <= 0 || o.Size%block.Size != 0 {
		return fmt.Errorf("the size of a lazy disk is %d bytes, and must be a multiple of %d", o.Size, block.Size)
	}
	if !strings.HasPrefix(o.Name, NamePrefix) || strings.ContainsAny(o.Name, "/\x00 \n") || len(o.Name) > maxName {
		return fmt.Errorf("%q is not the name of a lazy disk", o.Name)
	}
	return nil
}

// scratch returns the directory for changed blocks.
func (o *Options) scratch() string {
	if o.ScratchDir != "" {
		return o.ScratchDir
	}
	if dir := "/var/tmp"; isDir(dir) {
		return dir
	}
	return os.TempDir()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Stats are figures of a disk.
type Stats struct {
	fetch.Stats
	// Read and Written are the bytes that users of the device have read and written.
	Read, Written int64
	// CacheError is the reason why blocks were not cached although they should; otherwise it is "".
	CacheError string
	// Damaged is the number of blocks in the cache that failed the verification.
	Damaged int64
}

// FetchedBytes returns the number of bytes that the source has sent.
func (s Stats) FetchedBytes() int64 { return s.Fetched * block.Size }
