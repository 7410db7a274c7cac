package builder

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Kind holds the differences between the builders toward Packer.
type Kind struct {
	// Type is the builder's type in a template, such as amazon-chroot.
	Type string
	// ID is the BuilderId of the artifacts: post-processors look for it.
	ID string
	// Provider is the cloud's name in HCP Packer's registry.
	Provider string
	// Image is the cloud's word for an image: AMI or OMI.
	Image string
	// SourceFields are the fields of the build's template data that only this cloud's images have.
	SourceFields []SourceField
	// Limits are the cloud's limits.
	Limits Limits
	// VolumeTypes are the types of volumes that the cloud has.
	VolumeTypes VolumeTypes
}

// Limits are a cloud's limits, in characters. They are checked before anything is created: the
// cloud itself would refuse the image at the end.
type Limits struct {
	// Name matches the characters that the name of an image may have.
	Name *regexp.Regexp
	// NameSet describes these characters in error messages.
	NameSet string
	// Description, TagKey and TagValue are the longest; 0 is no limit.
	Description, TagKey, TagValue int
	// Tags is how many tags a thing may have; 0 is no limit.
	Tags int
	// Device matches the names under which a volume can be attached, and DeviceSet describes
	// them in error messages.
	Device    *regexp.Regexp
	DeviceSet string
	// ReservedTag is the beginning of the keys that only the cloud itself gives.
	ReservedTag string
}

// CheckName fails when an image cannot have the name.
func (k Kind) CheckName(option, name string) error {
	switch n := len([]rune(name)); {
	case n == 0:
		return fmt.Errorf("%s is required", option)
	case n < 3 || n > 128:
		return fmt.Errorf("%s %q has %d characters, but must have 3 to 128", option, name, n)
	case !k.Limits.Name.MatchString(name):
		return fmt.Errorf("%s %q may only have %s", option, name, k.Limits.NameSet)
	}
	return nil
}

// cleanName puts a dash in the place of every character that the name of an image
// cannot have: the template function clean_resource_name.
func (k Kind) cleanName(name string) string {
	var clean strings.Builder
	for _, char := range name {
		if k.Limits.Name.MatchString(string(char)) {
			clean.WriteRune(char)
		} else {
			clean.WriteByte('-')
		}
	}
	return clean.String()
}

func (l Limits) checkDescription(text string) error {
	if n := len([]rune(text)); l.Description > 0 && n > l.Description {
		return fmt.Errorf("the description has %d characters, but may have %d", n, l.Description)
	}
	return nil
}

// checkCount returns an error if a resource cannot have as many tags.
func (l Limits) checkCount(what string, n int) error {
	if l.Tags > 0 && n > l.Tags {
		return fmt.Errorf("%s would have %d tags, but may have %d", what, n, l.Tags)
	}
	return nil
}

// checkTags returns an error if a resource cannot have the tags.
func (l Limits) checkTags(what string, tags map[string]string) error {
	if err := l.checkCount(what, len(tags)); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		switch value := tags[key]; {
		case key == "":
			return fmt.Errorf("the tag of %s with value %q has an empty key", what, value)
		case l.ReservedTag != "" && strings.HasPrefix(strings.ToLower(key), l.ReservedTag):
			return fmt.Errorf("tag %q begins with %q, which only the cloud may use", key, l.ReservedTag)
		case l.TagKey > 0 && len([]rune(key)) > l.TagKey:
			return fmt.Errorf("tag %q has a key of more than %d characters", key, l.TagKey)
		case l.TagValue > 0 && len([]rune(value)) > l.TagValue:
			return fmt.Errorf("tag %q has a value of more than %d characters", key, l.TagValue)
		}
	}
	return nil
}
