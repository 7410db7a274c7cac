package ebsdirect

import (
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// TransfersBlock reports whether an action transfers a block. A build requests it once for each block,
// so the requests are counted: see Requests.
func TransfersBlock(action string) bool {
	return action == "GetSnapshotBlock" || action == "PutSnapshotBlock"
}

// requests counts the requests of a Client that transfer blocks.
type requests struct {
	mu  sync.Mutex
	all map[string]event.Requests
}

// count counts a request.
func (r *requests) count(action string, err error) {
	if !TransfersBlock(action) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = map[string]event.Requests{}
	}
	n := r.all[action]
	n.Service, n.Action = ebs.ServiceID, action
	n.Made++
	if err != nil {
		n.Failed++
	} else {
		n.Bytes += block.Size
	}
	r.all[action] = n
}

// Requests returns the numbers of requests that transferred a block, by action.
func (c *Client) Requests() []event.Requests {
	c.requests.mu.Lock()
	defer c.requests.mu.Unlock()
	var all []event.Requests
	for _, action := range slices.Sorted(maps.Keys(c.requests.all)) {
		all = append(all, c.requests.all[action])
	}
	return all
}
