package bake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// naming is the creation of an image under a name. What had the name when the build began
// has made way by then, but the survey may not have been shown all, an image may have come
// later, and the cloud may still count one that was deregistered.
type naming struct {
	*build
	stack *undo.Stack
	act   act
	// region is where the name must be free.
	region string
	ask    func() (ImageID, error)
}

// made asks for the image until nothing else has its name, or until the patience is used
// up. What has the name makes way if the user wants that, and if it can be restored. It
// returns the armed act.
func (n naming) made(ctx context.Context) (*armed, ImageID, error) {
	for tries := n.waits.Settling.try(); ; {
		n.act.Begun = time.Now()
		it, err := n.arm(n.stack, n.act)
		if err != nil {
			return nil, "", err
		}
		id, taken, err := n.asked(ctx, tries)
		if len(taken) == 0 {
			return it, id, err
		}
		// An old image comes back only when the new one is gone: its act must be the earlier one.
		if err := it.Undo(ctx); err != nil {
			return it, "", err
		}
		if err := n.replace(ctx, n.stack, n.region, taken); err != nil {
			return it, "", err
		}
	}
}

// asked asks for the image until the cloud takes the name, or shows images that have it and
// can make way, which it returns.
func (n naming) asked(ctx context.Context, tries *tries) (id ImageID, taken []Record, err error) {
	for {
		id, err = sound(n.ask())
		if !errors.Is(err, ErrNameTaken) {
			return id, nil, err
		}
		taken, why := n.taken(ctx)
		if len(taken) > 0 || why != nil && !errors.Is(why, ErrUnsettled) {
			return "", taken, why
		}
		why = cmp.Or(why, err)
		if tries.n == 0 {
			n.report.Detail("trying again: %v", why)
		}
		if stop := tries.again(ctx, fmt.Sprintf("the image name %q", n.act.Name), why); stop != nil {
			return "", nil, stop
		}
	}
}

// taken returns the images that are shown to have the name and can make way, but for those
// that have done so. An error wraps ErrUnsettled if one is not available yet.
func (n naming) taken(ctx context.Context) ([]Record, error) {
	cloud := n.cloud.In(n.region)
	ids, err := cloud.Named(ctx, n.act.Name)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id ImageID) bool {
		_, gone := n.actOf(actReplaced, func(a act) bool { return a.Image == id && a.Region == n.region })
		return gone
	})
	records, err := n.record(ctx, n.region, ids)
	if err == nil || !n.plan.Replace {
		return records, err
	}
	for _, id := range ids {
		if img, unread := cloud.Image(ctx, id); unread == nil && img.State == ImagePending {
			return nil, Unsettled(err)
		}
	}
	return nil, err
}
