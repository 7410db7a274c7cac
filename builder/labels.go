package builder

import (
	"fmt"
	"maps"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// LabelText is an option of a cloud for one text of the labels. If an option of that kind is added,
// a field and a LabelText of the Job are enough: the text is checked, rendered and set here.
type LabelText struct {
	// Option is the option's name, and Text its value: a template, or empty if it is not given.
	Option, Text string
	// Set sets the rendered text. The labels have the tags of Tagging already, and the texts of
	// earlier options.
	Set func(labels *bake.Labels, text string)
}

// Description returns the LabelText of an option for the description of the image and of its
// snapshot.
func Description(option, text string) LabelText {
	return LabelText{option, text, func(labels *bake.Labels, text string) {
		labels.ImageDescription, labels.SnapshotDescription = text, text
	}}
}

// tagSet is one of the maps of tags, with the option that gave it.
type tagSet struct {
	option string
	tags   map[string]string
}

func (t Tagging) sets() []tagSet {
	return []tagSet{{"tags", t.Tags}, {"snapshot_tags", t.SnapshotTags}, {"root_volume_tags", t.RootVolumeTags}}
}

// labelTemplates calls a function with the templates of all labels and their options.
func (j Job) labelTemplates(visit func(option, text string)) {
	for _, label := range j.LabelTexts {
		visit(label.Option, label.Text)
	}
	for _, set := range j.Config.sets() {
		for _, key := range slices.Sorted(maps.Keys(set.tags)) {
			visit(fmt.Sprintf("%s %q", set.option, key), key)
			visit(fmt.Sprintf("%s %q", set.option, key), set.tags[key])
		}
	}
}

// labelOptions returns the names of the options in LabelTexts.
func (j Job) labelOptions() []string {
	var names []string
	for _, label := range j.LabelTexts {
		names = append(names, label.Option)
	}
	return names
}

// CheckLabels returns errors for descriptions and tags that are no templates, that use unknown
// fields, or that the cloud would refuse.
func (j Job) CheckLabels() []error {
	fields := slices.Sorted(maps.Keys(j.labelData(bake.Facts{})))
	var errs []error
	j.labelTemplates(func(option, text string) {
		if err := checkTemplate(option, text, &j.Config.ictx, fields...); err != nil {
			errs = append(errs, err)
		}
	})
	for _, label := range j.LabelTexts {
		if literal(label.Text) {
			errs = append(errs, j.Limits.checkText(label, label.Text))
		}
	}
	return append(errs, j.Limits.checkLiterals(j.Config.Tagging)...)
}

// checkText returns an error if the labels cannot have the rendered text of an option.
func (l Limits) checkText(label LabelText, text string) error {
	labels := bake.Labels{ImageTags: map[string]string{}, SnapshotTags: map[string]string{}, VolumeTags: map[string]string{}}
	label.Set(&labels, text)
	if err := l.check(labels); err != nil {
		return fmt.Errorf("%s: %w", label.Option, err)
	}
	return nil
}

// checkLiterals checks tags without templates against the cloud's limits. The others are checked
// when they are rendered.
func (l Limits) checkLiterals(tagging Tagging) []error {
	var errs []error
	tell := func(option string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", option, err))
		}
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
	r.labelTemplates(func(option, text string) {
		parsed, err := parseTemplate(option, text, &r.Config.ictx)
		if err != nil || parsed.Tree == nil {
			return
		}
		for _, key := range tagKeysUsed(parsed.Root, field) {
			if _, known := tags[key]; !known {
				r.report.Warn("Warning: %s speaks of .%s.%s, but %s has no tag %q: it is empty", option, field, key, of, key)
			}
		}
	})
}

// labels renders the descriptions and the tags, and checks them against the cloud's limits.
func (r *run) labels(facts bake.Facts) (bake.Labels, error) {
	data := r.labelData(facts)
	r.missingTags(facts)
	texts, err := r.renderTexts(data)
	if err != nil {
		return bake.Labels{}, err
	}
	var rendered [3]map[string]string
	for i, set := range r.Config.sets() {
		if rendered[i], err = renderMap(set.option, set.tags, r.Config.ictx, data); err != nil {
			return bake.Labels{}, err
		}
	}
	image, snapshot, volume := rendered[0], rendered[1], rendered[2]
	labels := bake.Labels{ImageTags: image, SnapshotTags: overlay(image, snapshot), VolumeTags: volume}
	for _, label := range texts {
		label.Set(&labels, label.Text)
	}
	return labels, r.Limits.check(labels)
}

// renderTexts renders the texts of the options that are given, and checks each against the cloud's
// limits.
func (r *run) renderTexts(data map[string]any) ([]LabelText, error) {
	var rendered []LabelText
	for _, label := range r.LabelTexts {
		if label.Text == "" {
			continue
		}
		text, err := render(label.Text, r.Config.ictx, data)
		if err != nil {
			return nil, fmt.Errorf("cannot render %s: %w", label.Option, err)
		}
		if err := r.Limits.checkText(label, text); err != nil {
			return nil, err
		}
		rendered = append(rendered, LabelText{label.Option, text, label.Set})
	}
	return rendered, nil
}

// overlay puts the tags of over upon those of under.
func overlay(under, over map[string]string) map[string]string {
	all := make(map[string]string, len(under)+len(over))
	maps.Copy(all, under)
	maps.Copy(all, over)
	return all
}

// check checks rendered descriptions and tags.
func (l Limits) check(labels bake.Labels) error {
	for _, text := range []string{labels.ImageDescription, labels.SnapshotDescription} {
		if err := l.checkDescription(text); err != nil {
			return err
		}
	}
	if err := l.checkTags("the image", labels.ImageTags); err != nil {
		return err
	}
	if err := l.checkTags("its snapshots", labels.SnapshotTags); err != nil {
		return err
	}
	all := overlay(labels.VolumeTags, map[string]string{bake.BuildTag: ""})
	if err := l.checkCount(volumeWithTag, len(all)); err != nil {
		return err
	}
	return l.checkTags("the volume", labels.VolumeTags)
}
