package oapi

import (
	"maps"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// tag is a tag in requests and responses.
type tag struct {
	Key   string `json:"Key"   need:"yes"`
	Value string `json:"Value" need:"yes"`
}

// tagsView returns tags sorted by key.
func tagsView(tags map[string]string) []tag {
	out := []tag{}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tag{k, tags[k]})
	}
	return out
}

type tagsRequest struct {
	baseRequest
	ResourceIDs []string `json:"ResourceIds" need:"yes"`
	Tags        []tag    `json:"Tags"        need:"yes"`
}

// maxTagText is the largest length of a tag's key and value, in characters.
const maxTagText = 255

// check returns an error if a resource ID or a tag is invalid.
func (in *tagsRequest) check() error {
	switch {
	case len(in.ResourceIDs) == 0:
		return missing.with("the parameter ResourceIds is required")
	case len(in.Tags) == 0:
		return missing.with("the parameter Tags is required")
	}
	for _, id := range in.ResourceIDs {
		if err := checkID("", id); err != nil {
			return err
		}
	}
	for _, t := range in.Tags {
		if k := len([]rune(t.Key)); k < 1 || k > maxTagText {
			return badValue.with("the key %q of a tag does not have 1 to %d characters", t.Key, maxTagText)
		}
		if len([]rune(t.Value)) > maxTagText {
			return badValue.with("the value of the tag %q has more than %d characters", t.Key, maxTagText)
		}
	}
	return nil
}

func (c *call) createTags(in *tagsRequest) (*emptyResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, t := range in.Tags {
		tags[t.Key] = t.Value
	}
	return succeeded(c.st.AddTags(c.caller, in.ResourceIDs, tags, in.DryRun))
}

func (c *call) deleteTags(in *tagsRequest) (*emptyResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	tags := map[string]*string{}
	for _, t := range in.Tags {
		tags[t.Key] = &t.Value
	}
	return succeeded(c.st.RemoveTags(c.caller, in.ResourceIDs, tags, in.DryRun))
}

// tagView is a tag of a resource in a response.
type tagView struct {
	ResourceID   string `json:"ResourceId"`
	ResourceType string `json:"ResourceType"`
	Key          string `json:"Key"`
	Value        string `json:"Value"`
}

type readTagsResponse struct {
	nextPage
	baseResponse
	Tags []tagView `json:"Tags"`
}

var tagFilters = map[string]filter[tagView]{
	"ResourceIds":   {ids, one(func(v tagView) string { return v.ResourceID })},
	"ResourceTypes": {text, one(func(v tagView) string { return v.ResourceType })},
	"Keys":          {text, one(func(v tagView) string { return v.Key })},
	"Values":        {text, func(v tagView) []string { return []string{v.Value} }},
}

func (c *call) readTags(in *listRequest) (*readTagsResponse, error) {
	views := mapped(c.st.Tags(c.caller), func(t state.Tag) tagView {
		return tagView{t.ResourceID, t.ResourceType, t.Key, t.Value}
	})
	tags, next, err := list(in, tagFilters, views)
	return &readTagsResponse{Tags: tags, nextPage: next}, err
}

// mapped returns the views of resources.
func mapped[T, V any](resources []T, view func(T) V) []V {
	out := make([]V, len(resources))
	for i, resource := range resources {
		out[i] = view(resource)
	}
	return out
}
