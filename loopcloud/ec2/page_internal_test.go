package ec2

import (
	"errors"
	"fmt"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
)

// TestUnpaged checks that a response without paging is refused if it is too large.
func TestUnpaged(t *testing.T) {
	resources := make([]string, maxUnpaged+1)
	for i := range resources {
		resources[i] = fmt.Sprintf("%05d", i)
	}
	key := func(resource string) string { return resource }
	c, size := &call{action: "DescribeSnapshots"}, int64(maxPage)
	if shown, next, err := page(c, paging{}, resources[:maxUnpaged], key); err != nil || len(shown) != maxUnpaged || next != "" {
		t.Errorf("of %d resources, %d are shown: %v", maxUnpaged, len(shown), err)
	}
	if shown, next, err := page(c, paging{MaxResults: &size}, resources, key); err != nil || len(shown) != maxPage || next == "" {
		t.Errorf("in pages, %d are shown: %v", len(shown), err)
	}
	_, _, err := page(c, paging{}, resources, key)
	var refused *query.Error
	if !errors.As(err, &refused) || refused.Code != "OperationNotPermitted" {
		t.Errorf("of %d resources, the error is %v", len(resources), err)
	}
}
