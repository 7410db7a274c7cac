package amazon

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// filter is one condition of a reading call: the attribute has one of the
// values.
func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// tagging is the tags of a creating call; empty if there are none, for EC2
// refuses an empty specification.
func tagging(kind types.ResourceType, tags map[string]string) []types.TagSpecification {
	if len(tags) == 0 {
		return nil
	}
	spec := types.TagSpecification{ResourceType: kind}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		spec.Tags = append(spec.Tags, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return []types.TagSpecification{spec}
}

// tagsOf returns the tags of a resource in an EC2 response.
func tagsOf(tags []types.Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	all := make(map[string]string, len(tags))
	for _, tag := range tags {
		all[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return all
}

// optional returns a text to send; nil if it is empty.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// count is a number to send, or nothing if it is 0. EC2 counts in 32 bits and
// refuses numbers far below their end, so a larger one is cut to it.
func count(n int64) *int32 {
	if n == 0 {
		return nil
	}
	return aws.Int32(int32(min(max(n, math.MinInt32), math.MaxInt32)))
}

// number is a count that EC2 may have left out.
func number(n *int32) int64 { return int64(aws.ToInt32(n)) }

// idsOf returns the IDs in a list of EC2's, without empty ones: a removing call must not be made
// for one.
func idsOf[ID ~string, Thing any](things []Thing, id func(Thing) *string) []ID {
	var ids []ID
	for _, thing := range things {
		if text := aws.ToString(id(thing)); text != "" {
			ids = append(ids, ID(text))
		}
	}
	return ids
}

func imageID(i types.Image) *string { return i.ImageId }

// checkID returns an error if EC2 describes another resource than the one that it was asked for.
func checkID(what, id string, told *string) error {
	if told != nil && *told != id {
		return fmt.Errorf("asked for %s %s, but EC2 returned %q", what, id, *told)
	}
	return nil
}

// pageSize is how many results a listing call asks for at a time. EC2 pages only if it is
// asked for a number, and refuses to list many results at once. It takes no number
// together with ids.
// Source: https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-pagination.html
const pageSize = 1000

// mostPages bounds a list. EC2's pages have up to a thousand things.
const mostPages = 1000

// pages returns the entries of all pages of a listing action. A list that does not end is an error,
// because the missing entries would not be noticed.
func pages[Thing any](action string, read func(token *string) (page []Thing, next *string, err error)) ([]Thing, error) {
	var (
		all   []Thing
		token *string
	)
	for range mostPages {
		page, next, err := read(token)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if aws.ToString(next) == "" {
			return all, nil
		}
		if aws.ToString(next) == aws.ToString(token) {
			return nil, fmt.Errorf("%s repeats the page token %q", action, *next)
		}
		token = next
	}
	return nil, fmt.Errorf("%s has no end after %d pages", action, mostPages)
}

// notFound is the error of a reading call that found no such thing.
func notFound(what, id string) error {
	return fmt.Errorf("%s %s: %w", what, id, bake.ErrNotFound)
}
