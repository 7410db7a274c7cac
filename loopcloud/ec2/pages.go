package ec2

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
)

// maxPage is the most things that a page has, whatever was asked for.
const maxPage = 1000

// maxUnpaged is the most things that an answer without pages has. EC2 does not publish its
// limit; that there is one is known from
// https://github.com/aws/aws-tools-for-powershell/issues/147
const maxUnpaged = 1000

// paging is how much of an answer is wanted, and from where on.
type paging struct {
	MaxResults *int64 `query:"MaxResults"`
	NextToken  string `query:"NextToken"`
}

// checkPage refuses pages smaller than an action makes, and pages of things that are
// named by id.
func (p paging) checkPage(smallest int64, ids int) error {
	if p.MaxResults == nil {
		return nil
	}
	if *p.MaxResults < smallest {
		return query.Refuse("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value of %d or more.", *p.MaxResults, smallest)
	}
	if ids > 0 {
		return query.Refuse("InvalidParameterCombination", "The parameter maxResults cannot be used with a list of ids")
	}
	return nil
}

// page answers the things of one page, and the token of the next one. A token
// holds the place of the last thing shown, so that the next page is right
// whatever was made or removed in between.
func page[T any](c *call, p paging, things []T, place func(T) string) (shown []T, next string, err error) {
	slices.SortStableFunc(things, func(a, b T) int { return strings.Compare(place(a), place(b)) })
	if p.NextToken != "" {
		after, err := c.readToken(p.NextToken)
		if err != nil {
			return nil, "", err
		}
		things = slices.DeleteFunc(things, func(thing T) bool { return place(thing) <= after })
	}
	size := int64(len(things))
	if p.MaxResults == nil && size > maxUnpaged {
		return nil, "", query.Refuse("OperationNotPermitted",
			"You have exceeded the output limit for an unpaginated response. Retry your request using pagination parameters.")
	}
	if p.MaxResults != nil {
		size = min(*p.MaxResults, maxPage, size)
	}
	if size < int64(len(things)) {
		next = c.token(place(things[size-1]))
	}
	return things[:size], next, nil
}

// born is the place of a thing in an answer: by time, then by id.
func born(at time.Time, id string) string {
	return fmt.Sprintf("%020d %s", at.UnixNano(), id)
}

// token hides a place from clients. It is good for its own action only.
func (c *call) token(place string) string {
	return base64.URLEncoding.EncodeToString([]byte(c.action + "\n" + place))
}

func (c *call) readToken(token string) (string, error) {
	text, err := base64.URLEncoding.DecodeString(token)
	action, place, ok := strings.Cut(string(text), "\n")
	if err != nil || !ok || action != c.action {
		return "", query.Refuse("InvalidNextToken", "The specified NextToken is not valid: %s", token)
	}
	return place, nil
}
