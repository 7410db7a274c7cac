package builder

import (
	"maps"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// SourceField is a field of the build's template data: a property of the source image.
type SourceField struct {
	// Suffix follows SourceAMI or SourceOMI in the field's name.
	Suffix string
	// Value returns the property. A build from scratch has the zero Image.
	Value func(source bake.Image) string
}

// sourceFields are the fields of every cloud.
var sourceFields = []SourceField{
	{"", func(i bake.Image) string { return string(i.ID) }},
	{"Name", func(i bake.Image) string { return i.Name }},
	{"CreationDate", func(i bake.Image) string { return i.Created }},
	{"Owner", func(i bake.Image) string { return i.Owner }},
	{"OwnerName", func(i bake.Image) string { return i.OwnerName }},
}

const fieldRegion = "BuildRegion"

// sourceData returns the facts about the source image under the names of this kind's templates
// and provisioners: SourceAMI, SourceAMIName and so on.
func (k Kind) sourceData(source *bake.Image) map[string]any {
	if source == nil {
		source = &bake.Image{}
	}
	data := map[string]any{}
	for _, field := range slices.Concat(sourceFields, k.SourceFields) {
		data["Source"+k.Image+field.Suffix] = field.Value(*source)
	}
	return data
}

// sourceTags is the name of the field of the source image's tags.
func (k Kind) sourceTags() string { return "Source" + k.Image + tagsSuffix }

// labelData returns the data of the templates of the description and of tags.
func (k Kind) labelData(facts bake.Facts) map[string]any {
	data := k.sourceData(facts.Source)
	data[fieldRegion] = facts.Host.Region
	tags := map[string]string{}
	if facts.Source != nil && facts.Source.Tags != nil {
		tags = facts.Source.Tags
	}
	data[k.sourceTags()] = tags
	return data
}

// hookData returns the data that provisioners and post-processors read with the build function.
func (k Kind) hookData(w bake.Workplace) map[string]any {
	data := k.sourceData(w.Source)
	data[fieldRegion] = w.Host.Region
	data[fieldDevice] = string(w.Device)
	data[fieldMountPath] = w.Root.Path()
	return data
}

// GeneratedData returns the names of the data that a build gives its provisioners.
func (k Kind) GeneratedData() []string {
	names := slices.Collect(maps.Keys(k.sourceData(nil)))
	return slices.Sorted(slices.Values(append(names, fieldRegion, fieldDevice, fieldMountPath)))
}
