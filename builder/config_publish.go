//go:generate packer-sdc struct-markdown
package builder

// Replacing holds the options for an existing image with the same name.
type Replacing struct {
	// Replace the images of the account that have the name of the new image. The old images
	// are deregistered when the new snapshots are complete, and registered again if the new
	// image cannot be registered. An image that gets the name during the build is replaced
	// too, once it is available. `packer build -force` does the same. Defaults to `false`:
	// the build fails if an image has the name.
	ForceDeregister bool `mapstructure:"force_deregister"`
	// Delete the snapshots of the images that `force_deregister` deregisters, once the new
	// image is available. Defaults to `false`.
	ForceDeleteSnapshot bool `mapstructure:"force_delete_snapshot"`
}

// Sharing holds the options for sharing the snapshots.
type Sharing struct {
	// The IDs of the accounts that may create volumes from the snapshots of the image. By
	// default only the account itself may. An ID that does not have 12 digits is refused.
	SnapshotUsers []string `mapstructure:"snapshot_users"`
	// The groups that may create volumes from the snapshots of the image. The only group is
	// `all`, which makes the snapshots public. By default there are none.
	SnapshotGroups []string `mapstructure:"snapshot_groups"`
	// Do not check whether the regions in the template exist. Defaults to `false`.
	SkipRegionValidation bool `mapstructure:"skip_region_validation"`
}

func (s Sharing) checkSharing() []error {
	return append(CheckAccounts("snapshot_users", s.SnapshotUsers), CheckGroups("snapshot_groups", s.SnapshotGroups)...)
}
