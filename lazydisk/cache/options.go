package cache

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// DirVariable is the environment variable with the directory of the cache.
	DirVariable = "PACKER_CHROOT_BLOCK_CACHE"
	// SizeVariable is the environment variable with the limit of the cache, such as 20GiB.
	SizeVariable = "PACKER_CHROOT_BLOCK_CACHE_SIZE"

	// DefaultDir is the directory without an option and without the variable.
	DefaultDir = "/var/cache/packer-chroot/blocks"
	// DefaultSize is the limit without an option and without the variable.
	DefaultSize = 20 << 30
)

// Options are the options of a cache.
type Options struct {
	// Dir is the directory. It is created if it is missing. "" is no cache.
	Dir string
	// Limit is the size of all files in bytes. A cache whose limit is smaller than a block
	// keeps nothing.
	Limit int64
}

// Keeps reports whether there is a cache that keeps blocks.
func (o Options) Keeps() bool { return o.Dir != "" && o.Limit >= fileSize }

// FromEnvironment returns options in which an empty directory, and a limit of 0, are replaced by
// those of the environment or else by the defaults.
func FromEnvironment(o Options) (Options, error) {
	if o.Dir == "" {
		if o.Dir = os.Getenv(DirVariable); o.Dir != "" && !filepath.IsAbs(o.Dir) {
			return o, fmt.Errorf("%s is %q, but must be an absolute path", DirVariable, o.Dir)
		}
	}
	if o.Dir == "" {
		o.Dir = DefaultDir
	}
	if o.Limit != 0 {
		return o, nil
	}
	o.Limit = DefaultSize
	if text := os.Getenv(SizeVariable); text != "" {
		limit, err := ParseSize(text)
		if err != nil {
			return o, fmt.Errorf("%s: %w", SizeVariable, err)
		}
		o.Limit = limit
	}
	return o, nil
}

// units are the units of ParseSize, the longer names first.
var units = []struct {
	name string
	size int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"", 1},
}

// ParseSize returns the number of bytes of a size such as 500MiB, 20G or 1073741824. A size that is not 0
// but smaller than a block, such as 20, is an error: its unit is missing.
func ParseSize(text string) (int64, error) {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/unit.size {
			break
		}
		if size := n * unit.size; size == 0 || size >= fileSize {
			return size, nil
		}
		return 0, fmt.Errorf("%q is less than a block of %d KiB: give a unit, such as 20GiB, or 0 for no cache", text, fileSize>>10)
	}
	return 0, fmt.Errorf("%q is not a size in bytes, such as 500MiB or 20GiB", text)
}
