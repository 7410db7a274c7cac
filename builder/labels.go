package builder

import (
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// tagOptions are rendered when the source image is known.
var tagOptions = []string{"tags", "tag", "snapshot_tags", "snapshot_tag", "root_volume_tags", "root_volume_tag"}

// tagSet is one of the maps of tags, with the option that gave it.
type tagSet struct {
	option string
	tags   map[string]string
}

func (t Tagging) sets() []tagSet {
	return []tagSet{{"tags", t.Tags}, {"snapshot_tags", t.SnapshotTags}, {"root_volume_tags", t.RootVolumeTags}}
}

// merge takes the blocks into the maps.
func (t *Tagging) merge() []error {
	return slices.Concat(
		mergeBlocks("tag", &t.Tags, t.Tag),
		mergeBlocks("snapshot_tag", &t.SnapshotTags, t.SnapshotTag),
		mergeBlocks("root_volume_tag", &t.RootVolumeTags, t.RootVolumeTag),
	)
}

// mergeBlocks adds the blocks called option to a map, whose option is the plural.
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

// CheckLabels fails when the description or a tag is no template, or speaks of
// what is not known when it is rendered. option is the description's.
func (k Kind) CheckLabels(c *Config, option, description string) []error {
	fields := slices.Sorted(maps.Keys(k.labelData(bake.Facts{})))
	var errs []error
	check := func(option, text string) {
		if err := checkTemplate(option, text, &c.ictx, fields...); err != nil {
			errs = append(errs, err)
		}
	}
	check(option, description)
	for _, set := range c.sets() {
		for _, key := range slices.Sorted(maps.Keys(set.tags)) {
			check(fmt.Sprintf("%s %q", set.option, key), key)
			check(fmt.Sprintf("%s %q", set.option, key), set.tags[key])
		}
	}
	return errs
}

// labels renders description and tags, and holds them against what the cloud
// takes.
func (r *run) labels(facts bake.Facts) (bake.Labels, error) {
	data := r.labelData(facts)
	description, err := render(r.Description, r.Config.ictx, data)
	if err != nil {
		return bake.Labels{}, fmt.Errorf("cannot render the description: %w", err)
	}
	if err := r.Limits.checkDescription(description); err != nil {
		return bake.Labels{}, err
	}
	var rendered [3]map[string]string
	for i, set := range r.Config.sets() {
		if rendered[i], err = renderMap(set.option, set.tags, r.Config.ictx, data); err != nil {
			return bake.Labels{}, err
		}
	}
	image, snapshot, volume := rendered[0], rendered[1], rendered[2]
	labels := bake.Labels{Description: description, ImageTags: image, SnapshotTags: overlay(image, snapshot), VolumeTags: volume}
	return labels, r.checkTags(labels)
}

// overlay puts the tags of over upon those of under.
func overlay(under, over map[string]string) map[string]string {
	all := make(map[string]string, len(under)+len(over))
	maps.Copy(all, under)
	maps.Copy(all, over)
	return all
}

// checkTags holds rendered tags against what the cloud takes.
func (r *run) checkTags(labels bake.Labels) error {
	if err := r.Limits.checkTags("the image", labels.ImageTags); err != nil {
		return err
	}
	if err := r.Limits.checkTags("its snapshots", labels.SnapshotTags); err != nil {
		return err
	}
	all := overlay(labels.VolumeTags, map[string]string{bake.BuildTag: ""})
	if err := r.Limits.checkCount("the volume, with the build's own tag,", len(all)); err != nil {
		return err
	}
	return r.Limits.checkTags("the volume", labels.VolumeTags)
}
