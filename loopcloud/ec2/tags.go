package ec2

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The limits of tags: the number of tags of a resource, and the number of characters in a key and
// a value. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// tag is Tag.N of a request. DeleteTags distinguishes a missing value from an empty one.
type tag struct {
	Key   string  `query:"Key"`
	Value *string `query:"Value"`
}

func (t tag) value() string {
	if t.Value == nil {
		return ""
	}
	return *t.Value
}

func (t tag) check() error {
	switch {
	case t.Key == "":
		return query.Refuse("InvalidParameterValue", "Value ( '' ) for parameter Tag key is invalid. Tag key cannot be null or empty.")
	case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
		return query.Refuse("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
	case utf8.RuneCountInString(t.Key) > maxTagKey:
		return query.Refuse("InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", maxTagKey)
	case utf8.RuneCountInString(t.value()) > maxTagValue:
		return query.Refuse("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", maxTagValue)
	}
	return nil
}

// tagMap returns the tags of one resource, or an error if they are invalid.
func tagMap(tags []tag) (map[string]string, error) {
	if len(tags) > maxTags {
		return nil, query.Refuse("TagLimitExceeded", "The maximum number of tags for a resource is %d", maxTags)
	}
	out := make(map[string]string, len(tags))
	for _, t := range tags {
		if err := t.check(); err != nil {
			return nil, err
		}
		if _, twice := out[t.Key]; twice {
			return nil, query.Refuse("InvalidParameterValue", "Duplicate tag key '%s' specified.", t.Key)
		}
		out[t.Key] = t.value()
	}
	return out, nil
}

// tagSpecifications holds the tags of resources to create, by resource type.
type tagSpecifications struct {
	Specifications []tagSpecification `query:"TagSpecification"`
}

type tagSpecification struct {
	ResourceType string `query:"ResourceType,required"`
	Tags         []tag  `query:"Tag"`
}

// tagsOf returns the tags for each of the resource types that an action creates.
func (s tagSpecifications) tagsOf(types ...string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for _, spec := range s.Specifications {
		if !slices.Contains(types, spec.ResourceType) {
			return nil, query.Refuse("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", spec.ResourceType)
		}
		if _, twice := out[spec.ResourceType]; twice {
			return nil, query.Refuse("InvalidParameterValue", "The resource type '%s' is specified more than once.", spec.ResourceType)
		}
		if len(spec.Tags) == 0 {
			return nil, query.Refuse("InvalidTagKey.Malformed", "Tag specification must have at least one tag")
		}
		tags, err := tagMap(spec.Tags)
		if err != nil {
			return nil, err
		}
		out[spec.ResourceType] = tags
	}
	return out, nil
}

// tagItem is a tag of a resource in a response.
type tagItem struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

// tagSet returns tags sorted by key, nil if there are none: EC2 then omits the set.
func tagSet(tags map[string]string) *set[tagItem] {
	var items []tagItem
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		items = append(items, tagItem{key, tags[key]})
	}
	return some(items)
}

type createTagsInput struct {
	baseInput
	Resources []string `query:"ResourceId"`
	Tags      []tag    `query:"Tag"`
}

func (c *call) createTags(in *createTagsInput) (*done, error) {
	if len(in.Tags) == 0 {
		return nil, query.Refuse("InvalidParameterValue", "You must specify one or more tags to create")
	}
	if err := checkResources(in.Resources); err != nil {
		return nil, err
	}
	tags, err := tagMap(in.Tags)
	if err != nil {
		return nil, err
	}
	return succeeded(c.st.AddTags(c.caller, in.Resources, tags, in.DryRun))
}

// checkResources returns an error if a request has no resource ID. EC2 calls the parameter
// ResourceId by another name here.
func checkResources(ids []string) error {
	if len(ids) == 0 {
		return query.Refuse("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	return nil
}

type deleteTagsInput struct {
	baseInput
	Resources []string `query:"ResourceId"`
	Tags      []tag    `query:"Tag"`
}

// deleteTags removes the named tags, or all tags if none is named.
func (c *call) deleteTags(in *deleteTagsInput) (*done, error) {
	if err := checkResources(in.Resources); err != nil {
		return nil, err
	}
	tags := map[string]*string{}
	for _, t := range in.Tags {
		if err := t.check(); err != nil {
			return nil, err
		}
		tags[t.Key] = t.Value
	}
	return succeeded(c.st.RemoveTags(c.caller, in.Resources, tags, in.DryRun))
}

var tagFilters = attributes[state.Tag]{
	"key":           one(func(t state.Tag) string { return t.Key }),
	"resource-id":   one(func(t state.Tag) string { return t.ResourceID }),
	"resource-type": one(func(t state.Tag) string { return t.ResourceType }),
	"value":         func(t state.Tag) []string { return []string{t.Value} },
	anyTag:          func(t state.Tag) []string { return []string{t.Key + "=" + t.Value} },
}

type describeTagsInput struct {
	baseInput
	paging
	Filters []filter `query:"Filter"`
}

type describeTagsOutput struct {
	baseResponse
	Tags      set[tagDescription] `xml:"tagSet"`
	NextToken string              `xml:"nextToken,omitempty"`
}

type tagDescription struct {
	ResourceID   string `xml:"resourceId"`
	ResourceType string `xml:"resourceType"`
	Key          string `xml:"key"`
	Value        string `xml:"value"`
}

func (c *call) describeTags(in *describeTagsInput) (*describeTagsOutput, error) {
	if err := in.checkPage(5, 0); err != nil {
		return nil, err
	}
	tags, err := pick(in.Filters, tagFilters, c.st.Tags(c.caller))
	if err != nil {
		return nil, err
	}
	shown, next, err := page(c, in.paging, tags, func(t state.Tag) string { return t.ResourceID + " " + t.Key })
	if err != nil {
		return nil, err
	}
	return &describeTagsOutput{Tags: convert(shown, describeTag), NextToken: next}, nil
}

func describeTag(t state.Tag) tagDescription {
	return tagDescription{ResourceID: t.ResourceID, ResourceType: t.ResourceType, Key: t.Key, Value: t.Value}
}
