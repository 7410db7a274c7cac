package ec2

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
)

// maxPage is the largest page. A request for more gets this many.
const maxPage = 1000

// maxUnpaged is the largest number of resources in a response without pages. EC2 does not
// document its limit; that there is one is known from
// https://github.com/aws/aws-tools-for-powershell/issues/147
const maxUnpaged = 1000

// paging is the requested page.
type paging struct {
	MaxResults *int64 `query:"MaxResults"`
	NextToken  string `query:"NextToken"`
}

// checkPage returns an error if the requested page is smaller than the action's minimum, or if
// the request names resources by ID.
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

// page returns the resources of one page, and the token of the next one. A token holds the sort
// key of the last resource on the page, so that the next page is right even if resources are
// created or removed in between.
func page[T any](c *call, p paging, resources []T, key func(T) string) (shown []T, next string, err error) {
	slices.SortStableFunc(resources, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	if p.NextToken != "" {
		after, err := c.readToken(p.NextToken)
		if err != nil {
			return nil, "", err
		}
		resources = slices.DeleteFunc(resources, func(resource T) bool { return key(resource) <= after })
	}
	size := int64(len(resources))
	if p.MaxResults == nil && size > maxUnpaged {
		return nil, "", query.Refuse("OperationNotPermitted",
			"You have exceeded the output limit for an unpaginated response. Retry your request using pagination parameters.")
	}
	if p.MaxResults != nil {
		size = min(*p.MaxResults, maxPage, size)
	}
	if size < int64(len(resources)) {
		next = c.token(key(resources[size-1]))
	}
	return resources[:size], next, nil
}

// sortKey returns the key that orders resources by time and ID.
func sortKey(at time.Time, id string) string {
	return fmt.Sprintf("%020d %s", at.UnixNano(), id)
}

// token returns an opaque token for a sort key. It is valid for its own action only.
func (c *call) token(key string) string {
	return base64.URLEncoding.EncodeToString([]byte(c.action + "\n" + key))
}

func (c *call) readToken(token string) (string, error) {
	text, err := base64.URLEncoding.DecodeString(token)
	action, key, ok := strings.Cut(string(text), "\n")
	if err != nil || !ok || action != c.action {
		return "", query.Refuse("InvalidNextToken", "The specified NextToken is not valid: %s", token)
	}
	return key, nil
}
