package oapi

import (
	"maps"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// tag is a tag as requests and answers have it.
type tag struct {
	Key   string `json:"Key"   need:"yes"`
	Value string `json:"Value" need:"yes"`
}

// tagsView are a thing's tags, in the order of their keys.
func tagsView(tags map[string]string) []tag {
	out := []tag{}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, tag{k, tags[k]})
	}
	return out
}

type tagParams struct {
	common
	ResourceIDs []string `json:"ResourceIds" need:"yes"`
	Tags        []tag    `json:"Tags"        need:"yes"`
}

// The lengths of a tag's key and value, in characters.
const maxTagText = 255

// check refuses what is no id or no tag.
func (p tagParams) check() error {
	switch {
	case len(p.ResourceIDs) == 0:
		return missing.with("the parameter ResourceIds is required")
	case len(p.Tags) == 0:
		return missing.with("the parameter Tags is required")
	}
	for _, id := range p.ResourceIDs {
		if err := checkID("", id); err != nil {
			return err
		}
	}
	for _, t := range p.Tags {
		if k := len([]rune(t.Key)); k < 1 || k > maxTagText {
			return badValue.with("the key %q of a tag does not have 1 to %d characters", t.Key, maxTagText)
		}
		if len([]rune(t.Value)) > maxTagText {
			return badValue.with("the value of the tag %q has more than %d characters", t.Key, maxTagText)
		}
	}
	return nil
}

func (h *Handler) createTags(r request, p tagParams) (answer, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, t := range p.Tags {
		tags[t.Key] = t.Value
	}
	return answer{}, h.state.AddTags(r.caller, p.ResourceIDs, tags, p.DryRun)
}

func (h *Handler) deleteTags(r request, p tagParams) (answer, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	tags := map[string]*string{}
	for _, t := range p.Tags {
		tags[t.Key] = &t.Value
	}
	return answer{}, h.state.RemoveTags(r.caller, p.ResourceIDs, tags, p.DryRun)
}

type tagView struct {
	ResourceID   string `json:"ResourceId"`
	ResourceType string `json:"ResourceType"`
	Key          string `json:"Key"`
	Value        string `json:"Value"`
}

type readTagsParams struct {
	paging
	Filters filters `json:"Filters"`
}

var tagFilters = map[string]property[tagView]{
	"ResourceIds":   {ids, one(func(v tagView) string { return v.ResourceID })},
	"ResourceTypes": {text, one(func(v tagView) string { return v.ResourceType })},
	"Keys":          {text, one(func(v tagView) string { return v.Key })},
	"Values":        {text, func(v tagView) []string { return []string{v.Value} }},
}

func (h *Handler) readTags(r request, p readTagsParams) (answer, error) {
	views := mapped(h.state.Tags(r.caller), func(t state.Tag) tagView {
		return tagView{t.ResourceID, t.ResourceType, t.Key, t.Value}
	})
	views, err := selected(views, p.Filters, tagFilters)
	if err != nil {
		return nil, err
	}
	return page(p.paging, "Tags", views)
}

// mapped is the views of things.
func mapped[T, V any](things []T, view func(T) V) []V {
	out := make([]V, len(things))
	for i, thing := range things {
		out[i] = view(thing)
	}
	return out
}
