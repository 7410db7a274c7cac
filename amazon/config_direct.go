//go:generate packer-sdc struct-markdown
package amazon

import (
	"errors"
	"fmt"
	"maps"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
)

// DirectConfig holds the options for building without a volume and without an instance.
type DirectConfig struct {
	// Build without an instance: read the blocks of the source AMI's snapshot, and write those of
	// the new snapshot, with the EBS direct APIs. The build then runs on any Linux host, creates
	// no volume and attaches nothing. It reads only the blocks that are used, and uploads only
	// the blocks that were changed. Defaults to `false`: the build attaches a volume to the
	// instance that it runs on. See [Building without an
	// instance](#building-without-an-instance).
	EBSDirect bool `mapstructure:"ebs_direct"`
	// With `ebs_direct`, keep the copy of the source AMI that the build makes if it cannot read
	// the AMI's blocks directly. Later builds find the copy by its tag and use it. The build
	// reports what it costs. `false` removes the copy after the build. Defaults to `true`.
	KeepSourceCopy config.Trilean `mapstructure:"keep_source_copy"`
	// With `ebs_direct`, the directory for blocks of source AMIs that were read. Later builds
	// on this host read them from there. Several builds can use it at the same time. Defaults to
	// the environment variable `PACKER_CHROOT_BLOCK_CACHE`, or to
	// `/var/cache/packer-chroot/blocks` if it is not set. A relative path is refused.
	BlockCacheDir string `mapstructure:"block_cache_dir"`
	// With `ebs_direct`, the size of the files in that directory at the most, such as `50GiB`. The
	// blocks that were not used for the longest time are removed first. `0` disables the cache.
	// Defaults to the environment variable `PACKER_CHROOT_BLOCK_CACHE_SIZE`, or to `20GiB` if it
	// is not set. A value that is not a size is refused, and so is a size smaller than a block of
	// 512 KiB, such as `20` without a unit.
	BlockCacheSize string `mapstructure:"block_cache_size"`
	// With `ebs_direct`, also keep blocks of encrypted snapshots in that directory. They are not
	// encrypted there; root can read them. Defaults to `false`: they are read again in each
	// build.
	BlockCacheEncrypted bool `mapstructure:"block_cache_encrypted"`
}

// noCache is a limit at which a cache keeps nothing.
const noCache = 1

// blockCache returns the options of the cache. A zero field is the environment's or the default.
func (d DirectConfig) blockCache() (cache.Options, error) {
	o := cache.Options{Dir: d.BlockCacheDir}
	if d.BlockCacheSize == "" {
		return o, nil
	}
	limit, err := cache.ParseSize(d.BlockCacheSize)
	if err != nil {
		return o, fmt.Errorf("block_cache_size: %w", err)
	}
	o.Limit = max(limit, noCache)
	return o, nil
}

// keepsCopy reports whether a copy of the source image stays for later builds.
func (d DirectConfig) keepsCopy() bool { return !d.KeepSourceCopy.False() }

// checkDirect returns the errors in options that depend on ebs_direct.
func (c *Config) checkDirect() []error {
	if !c.EBSDirect {
		return []error{c.checkInstance()}
	}
	return append(c.checkAttachment(), c.checkCache()...)
}

// checkInstance returns an error if nothing identifies the instance.
func (c *Config) checkInstance() error {
	if c.SkipMetadataAPICheck && c.InstanceID == "" {
		return errors.New("instance_id is required with skip_metadata_api_check: without the metadata nothing else says which instance this is")
	}
	return nil
}

// checkAttachment returns an error for each option that selects the device of an attached volume. A
// direct build has another device, so commands that name the selected one would use a wrong disk.
func (c *Config) checkAttachment() []error {
	var errs []error
	for _, o := range []struct{ option, value string }{{"device_path", c.DevicePath}, {"nvme_device_path", c.NVMEDevicePath}} {
		if o.value != "" {
			errs = append(errs, fmt.Errorf("%s is %q, but with ebs_direct no volume is attached: leave it out, and use {{.Device}} in commands", o.option, o.value))
		}
	}
	return append(errs, c.checkRoomForTag())
}

// checkRoomForTag returns an error if the snapshot would have too many tags while it is written: those
// of the user and the build's own.
func (c *Config) checkRoomForTag() error {
	all := maps.Clone(c.SnapshotTags)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, c.Tags)
	if most := kind.Limits.Tags - 1; len(all) > most {
		return fmt.Errorf("tags and snapshot_tags have %d keys, but with ebs_direct there can be %d: while the snapshot is written, it has one of the build's", len(all), most)
	}
	return nil
}

// checkCache returns the errors in the options of the cache.
func (c *Config) checkCache() []error {
	var errs []error
	o, err := c.blockCache()
	if err == nil {
		_, err = cache.FromEnvironment(o)
	}
	if err != nil {
		errs = append(errs, err)
	}
	if c.BlockCacheDir != "" && c.BlockCacheDir[0] != '/' {
		errs = append(errs, fmt.Errorf("block_cache_dir is %q, but must be an absolute path", c.BlockCacheDir))
	}
	return errs
}
