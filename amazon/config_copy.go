//go:generate packer-sdc struct-markdown
package amazon

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// CopyConfig holds the options for copying the image to other regions.
type CopyConfig struct {
	// The regions that the AMI is copied to, in parallel. Each copy gets the tags,
	// permissions, deprecation and deregistration protection of the AMI. By default the AMI
	// is not copied.
	AMIRegions []string `mapstructure:"ami_regions"`
	// Keep no AMI in the region of the build. The AMI has a temporary name there and is
	// removed after it has been copied to `ami_regions`. Defaults to `false`. It is an
	// error if `ami_regions` names no other region.
	SkipSaveBuildRegion bool `mapstructure:"skip_save_build_region"`
	// The time in which AWS must complete each copy of a snapshot, in minutes: from 15 to
	// 2880, in steps of 15. AWS charges for it. By default there is no such limit. A number
	// out of range is refused.
	SnapshotCopyDurationMinutes int64 `mapstructure:"snapshot_copy_duration_minutes"`
}

// checkCopies returns the errors in the options for copies.
func (c *Config) checkCopies() []error {
	return append(
		builder.CheckEach("ami_regions", c.AMIRegions, notEmpty, "the name of a region"),
		c.checkRegions(), c.checkCopyDuration(),
	)
}

// checkRegions returns an error if the image stays in no region.
func (c *Config) checkRegions() error {
	elsewhere := slices.DeleteFunc(c.regions(), func(region string) bool { return region == c.Region })
	if c.SkipSaveBuildRegion && len(elsewhere) == 0 {
		return errors.New("skip_save_build_region needs another region in ami_regions, or no AMI is left")
	}
	return nil
}

// The limits of a copy in time, in minutes.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/time-based-copies.html
const (
	copyStep = 15
	maxCopy  = 2880
)

func (c *Config) checkCopyDuration() error {
	n := c.SnapshotCopyDurationMinutes
	if n < 0 || n > maxCopy || n%copyStep != 0 {
		return fmt.Errorf("snapshot_copy_duration_minutes is %d, but must be from %d to %d, in steps of %d", n, copyStep, maxCopy, copyStep)
	}
	return nil
}

// afterSnapshots is how long a copy may take beside its snapshots.
const afterSnapshots = 30 * time.Minute

// waits returns how a build waits. EC2 may take all of the time that it is given for a copy.
func (c *Config) waits() bake.Waits {
	w := c.AWSPolling.waits()
	wanted := time.Duration(c.SnapshotCopyDurationMinutes)*time.Minute + afterSnapshots
	if usual := cmp.Or(w.Copy.Limit, bake.DefaultWaits().Copy.Limit); wanted > usual {
		w.Copy.Limit = wanted
	}
	return w
}

// regions returns ami_regions, each once.
func (c CopyConfig) regions() []string {
	var once []string
	for _, region := range c.AMIRegions {
		if !slices.Contains(once, region) {
			once = append(once, region)
		}
	}
	return once
}

func (c *Config) copyWarnings() []string {
	var warnings []string
	if n := len(c.AMIRegions) - len(c.regions()); n > 0 {
		warnings = append(warnings, "ami_regions names a region more than once: it is copied to once")
	}
	if c.Region != "" && slices.Contains(c.AMIRegions, c.Region) {
		warnings = append(warnings, fmt.Sprintf("ami_regions names %s, where the AMI is built: it is not copied there", c.Region))
	}
	if c.SnapshotCopyDurationMinutes > 0 && len(c.AMIRegions) == 0 && !c.EncryptBoot.True() {
		warnings = append(warnings, "snapshot_copy_duration_minutes is for copies, and none is asked for by ami_regions or encrypt_boot")
	}
	return warnings
}
