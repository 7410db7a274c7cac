package state

import (
	"maps"
	"slices"
	"strings"
)

const (
	// tagsPerResource is the largest number of tags of a resource (EC2 User Guide, "Tag
	// restrictions").
	tagsPerResource = 50
	// maxTagKey and maxTagValue are lengths: the larger of EC2's and Outscale's limits.
	maxTagKey   = 255
	maxTagValue = 256
)

// tagged is a resource with a pointer to its tags.
type tagged struct {
	resource string
	id       string
	place    Caller
	tags     *map[string]string
}

// tagged returns a resource of any kind and owner.
func (o *op) tagged(id string) (tagged, bool) {
	if r := o.db.VMs[id]; r != nil {
		return tagged{"instance", id, r.scope(), &r.Tags}, true
	}
	if r := o.db.Volumes[id]; r != nil {
		return tagged{"volume", id, r.scope(), &r.Tags}, r.Removed.IsZero()
	}
	if r := o.db.Snapshots[id]; r != nil {
		return tagged{"snapshot", id, r.scope(), &r.Tags}, r.Work != deleting
	}
	if r := o.db.Images[id]; r != nil {
		return tagged{"image", id, r.scope(), &r.Tags}, true
	}
	return tagged{}, false
}

// Tags returns the tags of the caller's resources, ordered by ID and key.
func (c *Cloud) Tags(caller Caller) []Tag {
	o := c.begin()
	defer o.end()
	var out []Tag
	for _, id := range c.db.ids() {
		t, ok := o.tagged(id)
		if !ok || t.place != caller {
			continue
		}
		for _, key := range slices.Sorted(maps.Keys(*t.tags)) {
			out = append(out, Tag{ResourceID: id, ResourceType: t.resource, Key: key, Value: (*t.tags)[key]})
		}
	}
	return out
}

// ids returns the IDs of all resources, sorted.
func (db *database) ids() []string {
	out := slices.Collect(maps.Keys(db.VMs))
	out = slices.AppendSeq(out, maps.Keys(db.Volumes))
	out = slices.AppendSeq(out, maps.Keys(db.Snapshots))
	out = slices.AppendSeq(out, maps.Keys(db.Images))
	slices.Sort(out)
	return out
}

// taggable returns the caller's resources with these IDs, or an error if one is missing.
func (o *op) taggable(caller Caller, ids []string) ([]tagged, error) {
	if len(ids) == 0 {
		return nil, refuse(Missing, "tag", "", "no resource ID was given")
	}
	var out []tagged
	for _, id := range ids {
		t, err := o.taggableOne(caller, id)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (o *op) taggableOne(caller Caller, id string) (tagged, error) {
	resource, prefix := resourceOf(id)
	if resource == "" {
		return tagged{}, refuse(Malformed, "tag", id, "no resource has such an id")
	}
	if err := checkID(prefix, resource, id); err != nil {
		return tagged{}, err
	}
	t, ok := o.tagged(id)
	switch {
	case ok && t.place == caller:
		return t, o.checkSeen(resource, caller, id)
	case ok && o.sees(caller, id):
		return tagged{}, refuse(NotAllowed, resource, id, "account %s is not its owner", caller.Account)
	}
	return tagged{}, refuse(NotFound, resource, id, "it does not exist")
}

// checkSeen returns the refusal of a changing call that does not see a new resource yet.
func (o *op) checkSeen(resource string, caller Caller, id string) error {
	switch resource {
	case "volume":
		return o.volumeStale.checkVisible(resource, id, caller)
	case "snapshot":
		return o.snapshotStale.checkVisible(resource, id, caller)
	case "image":
		return o.imageStale.checkVisible(resource, id, caller)
	}
	return nil
}

// sees reports whether a caller can see a snapshot or an image of another account.
func (o *op) sees(caller Caller, id string) bool {
	s, i := o.db.Snapshots[id], o.db.Images[id]
	return s != nil && s.visible(caller) || i != nil && i.visible(caller)
}

// AddTags sets tags on all of the resources, or on none of them.
func (c *Cloud) AddTags(caller Caller, ids []string, tags map[string]string, dry bool) error {
	o := c.begin()
	defer o.end()
	things, err := o.taggable(caller, ids)
	if err != nil {
		return err
	}
	if err := checkTags(tags); err != nil {
		return err
	}
	next := make([]map[string]string, len(things))
	for i, t := range things {
		next[i] = maps.Clone(*t.tags)
		if next[i] == nil {
			next[i] = map[string]string{}
		}
		maps.Copy(next[i], tags)
		if len(next[i]) > tagsPerResource {
			return refuse(Limit, "tag", t.id, "it would have more than %d tags", tagsPerResource)
		}
	}
	if dry {
		return dryRun("tag", "")
	}
	for i, t := range things {
		*t.tags = next[i]
	}
	return o.save()
}

// checkTags returns an error if tags are invalid.
func checkTags(tags map[string]string) error {
	if len(tags) > tagsPerResource {
		return refuse(Limit, "tag", "", "a resource has at most %d tags", tagsPerResource)
	}
	for key, value := range tags {
		if err := checkTag(key, value); err != nil {
			return err
		}
	}
	return nil
}

func checkTag(key, value string) error {
	switch {
	case key == "" || len([]rune(key)) > maxTagKey:
		return refuse(InvalidValue, "tag", key, "a tag's key has 1 to %d characters", maxTagKey)
	case len([]rune(value)) > maxTagValue:
		return refuse(InvalidValue, "tag", key, "a tag's value has at most %d characters", maxTagValue)
	case strings.ContainsRune(key+value, 0):
		return refuse(InvalidValue, "tag", key, "a tag holds no zero byte")
	}
	return nil
}

// RemoveTags removes tags from resources. With a value, it removes the tag only if the tag has
// this value; with nil it removes the key. Without tags, it removes all.
func (c *Cloud) RemoveTags(caller Caller, ids []string, tags map[string]*string, dry bool) error {
	o := c.begin()
	defer o.end()
	things, err := o.taggable(caller, ids)
	if err != nil {
		return err
	}
	if dry {
		return dryRun("tag", "")
	}
	for _, t := range things {
		maps.DeleteFunc(*t.tags, func(key, value string) bool {
			only, listed := tags[key]
			return len(tags) == 0 || listed && (only == nil || *only == value)
		})
	}
	return o.save()
}
