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

// CheckLabels returns errors for a description or tags that are no templates, or that use unknown
// fields. option is the description's.
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
	return append(errs, k.Limits.checkLiterals(c.Tagging, option, description)...)
}

// checkLiterals checks descriptions and tags without templates against the cloud's limits. The
// others are checked when they are rendered.
func (l Limits) checkLiterals(tagging Tagging, option, description string) []error {
	var errs []error
	tell := func(option string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", option, err))
		}
	}
	if literal(description) {
		tell(option, l.checkDescription(description))
	}
	var plain [3]map[string]string
	for i, set := range tagging.sets() {
		plain[i] = literals(set.tags)
		tell(set.option, l.checkTags([]string{"the image", "its snapshots", "the volume"}[i], plain[i]))
	}
	image, snapshot, volume := plain[0], plain[1], plain[2]
	if all := overlay(image, snapshot); len(all) > max(len(image), len(snapshot)) {
		tell("tags and snapshot_tags", l.checkCount("each snapshot", len(all)))
	}
	if len(volume) <= l.Tags {
		tell("root_volume_tags", l.checkCount(volumeWithTag, len(volume)+1))
	}
	return errs
}

// volumeWithTag names the volume that the build itself gives a tag to.
const volumeWithTag = "the volume, with the build's own tag,"

// literals returns the tags with keys that are no templates. A value that is a template becomes
// empty.
func literals(tags map[string]string) map[string]string {
	plain := map[string]string{}
	for key, value := range tags {
		if !literal(key) {
			continue
		}
		if !literal(value) {
			value = ""
		}
		plain[key] = value
	}
	return plain
}

// missingTags warns of tags that templates use and the source image does not have. They are
// rendered as empty strings.
func (r *run) missingTags(facts bake.Facts) {
	field, tags := r.sourceTags(), map[string]string{}
	of := "a build from scratch"
	if facts.Source != nil {
		tags, of = facts.Source.Tags, fmt.Sprintf("source image %s", facts.Source.ID)
	}
	warn := func(option, text string) {
		parsed, err := parseTemplate(option, text, &r.Config.ictx)
		if err != nil || parsed.Tree == nil {
			return
		}
		for _, key := range tagKeysUsed(parsed.Root, field) {
			if _, known := tags[key]; !known {
				r.report.Warn("Warning: %s speaks of .%s.%s, but %s has no tag %q: it is empty", option, field, key, of, key)
			}
		}
	}
	warn(r.descriptionOption(), r.Description)
	for _, set := range r.Config.sets() {
		for _, key := range slices.Sorted(maps.Keys(set.tags)) {
			warn(fmt.Sprintf("%s %q", set.option, key), key)
			warn(fmt.Sprintf("%s %q", set.option, key), set.tags[key])
		}
	}
}

// descriptionOption returns the name of the option for the image's description.
func (r *run) descriptionOption() string { return r.option("description") }

// labels renders the description and the tags, and checks them against the cloud's limits.
func (r *run) labels(facts bake.Facts) (bake.Labels, error) {
	data := r.labelData(facts)
	r.missingTags(facts)
	description, err := render(r.Description, r.Config.ictx, data)
	if err != nil {
		return bake.Labels{}, fmt.Errorf("cannot render %s: %w", r.descriptionOption(), err)
	}
	if err := r.Limits.checkDescription(description); err != nil {
		return bake.Labels{}, fmt.Errorf("%s: %w", r.descriptionOption(), err)
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

// checkTags checks rendered tags against the cloud's limits.
func (r *run) checkTags(labels bake.Labels) error {
	if err := r.Limits.checkTags("the image", labels.ImageTags); err != nil {
		return err
	}
	if err := r.Limits.checkTags("its snapshots", labels.SnapshotTags); err != nil {
		return err
	}
	all := overlay(labels.VolumeTags, map[string]string{bake.BuildTag: ""})
	if err := r.Limits.checkCount(volumeWithTag, len(all)); err != nil {
		return err
	}
	return r.Limits.checkTags("the volume", labels.VolumeTags)
}
