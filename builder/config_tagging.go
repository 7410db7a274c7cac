//go:generate packer-sdc struct-markdown
package builder

import (
	"fmt"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/template/config"
)

// Tagging holds the options for the tags of the created resources.
type Tagging struct {
	// The tags of the image and of its snapshots. Keys and values are templates: see
	// [Build template data](#build-template-data). By default there are none.
	Tags map[string]string `mapstructure:"tags"`
	// One tag of the image and of its snapshots, as a block with a `key` and a `value`. The
	// block may be repeated, and used together with `tags`. It is an error to set the same
	// key twice.
	Tag config.KeyValues `mapstructure:"tag"`
	// The tags of the snapshots of the image, in addition to `tags`. They replace tags with
	// the same key. Keys and values are templates, as in `tags`. By default there are none.
	SnapshotTags map[string]string `mapstructure:"snapshot_tags"`
	// One tag of the snapshots, as a block with a `key` and a `value`. The block may be
	// repeated, and used together with `snapshot_tags`. It is an error to set the same key
	// twice.
	SnapshotTag config.KeyValues `mapstructure:"snapshot_tag"`
	// The tags of the volume that the image is built on. The volume is deleted at the end
	// of the build. Keys and values are templates, as in `tags`. By default there is only
	// the build's own tag.
	RootVolumeTags map[string]string `mapstructure:"root_volume_tags"`
	// One tag of that volume, as a block with a `key` and a `value`. The block may be
	// repeated, and used together with `root_volume_tags`. It is an error to set the same
	// key twice.
	RootVolumeTag config.KeyValues `mapstructure:"root_volume_tag"`
}

// tagOptions are rendered when the source image is known.
var tagOptions = []string{"tags", "tag", "snapshot_tags", "snapshot_tag", "root_volume_tags", "root_volume_tag"}

// merge takes the blocks into the maps.
func (t *Tagging) merge() []error {
	return slices.Concat(
		mergeBlocks("tag", &t.Tags, t.Tag),
		mergeBlocks("snapshot_tag", &t.SnapshotTags, t.SnapshotTag),
		mergeBlocks("root_volume_tag", &t.RootVolumeTags, t.RootVolumeTag),
	)
}

// mergeBlocks adds the blocks called option to a map. The map's option is the plural.
func mergeBlocks(option string, to *map[string]string, blocks config.KeyValues) []error {
	if len(blocks) == 0 {
		return nil
	}
	var errs []error
	merged := overlay(*to, nil)
	for i, block := range blocks {
		if _, twice := merged[block.Key]; twice {
			errs = append(errs, fmt.Errorf("%s has the key %q, which an earlier one or %ss has too", entry(option, i), block.Key, option))
		}
		merged[block.Key] = block.Value
	}
	*to = merged
	return errs
}
