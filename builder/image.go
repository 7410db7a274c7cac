//go:generate packer-sdc struct-markdown
package builder

import "github.com/hashicorp/packer-plugin-sdk/template/config"

// Tagging is what is written on the things that a build makes.
type Tagging struct {
	// The tags of the image, and of the snapshots made for it. Keys and values are
	// templates: see [Build template data](#build-template-data). By default there
	// are none.
	Tags map[string]string `mapstructure:"tags"`
	// One tag of the image, as a block with a `key` and a `value`; it may be there many
	// times, beside `tags`. The same key twice is an error.
	Tag config.KeyValues `mapstructure:"tag"`
	// The tags of the snapshots made for the image, beside those of `tags` and in
	// place of those with the same key. Keys and values are templates, as in `tags`.
	// By default there are none.
	SnapshotTags map[string]string `mapstructure:"snapshot_tags"`
	// One tag of the snapshots, as a block with a `key` and a `value`; it may be there
	// many times, beside `snapshot_tags`.
	SnapshotTag config.KeyValues `mapstructure:"snapshot_tag"`
	// The tags of the volume that the image is built on, which is gone after the
	// build. Keys and values are templates, as in `tags`. By default there are none
	// but the build's own.
	RootVolumeTags map[string]string `mapstructure:"root_volume_tags"`
	// One tag of that volume, as a block with a `key` and a `value`; it may be there
	// many times, beside `root_volume_tags`.
	RootVolumeTag config.KeyValues `mapstructure:"root_volume_tag"`
}

// Replacing is what becomes of an image that has the name already.
type Replacing struct {
	// Put the new image in the place of those of the account that have its name. The
	// old ones are deregistered when the new snapshots are complete, and registered
	// again if the new image then cannot be. An image that gets the name during the build
	// is replaced too, once it is available. `packer build -force` does the same.
	// Defaults to `false`: a build fails when the name is in use.
	ForceDeregister bool `mapstructure:"force_deregister"`
	// Delete the snapshots of the images that `force_deregister` deregisters, once the
	// new image is available. Defaults to `false`.
	ForceDeleteSnapshot bool `mapstructure:"force_delete_snapshot"`
}

// Sharing is who may use the snapshots, and where.
type Sharing struct {
	// The ids of the accounts that may make volumes from the snapshots made for the
	// image. By default none may but the account itself.
	SnapshotUsers []string `mapstructure:"snapshot_users"`
	// The groups that may make volumes from the snapshots made for the image. There is
	// one, `all`: it makes them public. By default there are none.
	SnapshotGroups []string `mapstructure:"snapshot_groups"`
	// Do not ask the cloud whether the regions that are named exist. Defaults to
	// `false`.
	SkipRegionValidation bool `mapstructure:"skip_region_validation"`
}

func (s Sharing) checkSharing() []error {
	return append(CheckAccounts("snapshot_users", s.SnapshotUsers), CheckGroups("snapshot_groups", s.SnapshotGroups)...)
}
