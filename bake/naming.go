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

// naming is the creation of an image with a name. The images that had the name when the
// build began have been replaced by then, but the preflight step may not have been shown all of
// them, another one may have come later, and the cloud may still count one that was
// deregistered.
type naming[A act] struct {
	*build
	group undo.Group
	// name must be free in the region.
	name, region string
	// act returns the act of a creation that is begun now.
	act     func(begun time.Time) A
	request func() (ImageID, error)
}

// create requests the image until its name is free, or the time for settling is over.
// Images that have the name are replaced if the user wants that, and if they can be
// restored.
func (n naming[A]) create(ctx context.Context) (armed[A], ImageID, error) {
	for tries := n.waits.Settling.try(); ; {
		made, err := arm(n.undoer, n.group, n.act(time.Now()))
		if err != nil {
			return made, "", err
		}
		id, taken, err := n.repeat(ctx, tries)
		if len(taken) == 0 {
			return made, id, err
		}
		// An old image is restored only after the new one is gone: its act must be the earlier one.
		if err := made.Undo(ctx); err != nil {
			return made, "", err
		}
		if err := n.replace(ctx, n.group, n.region, taken); err != nil {
			return made, "", err
		}
	}
}

// repeat requests the image until the cloud accepts the name, or shows images that have it
// and can be replaced, which it returns.
func (n naming[A]) repeat(ctx context.Context, tries *tries) (id ImageID, taken []Record, err error) {
	for {
		id, err = validID(n.request())
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
		if stop := tries.again(ctx, fmt.Sprintf("the image name %q", n.name), why); stop != nil {
			return "", nil, stop
		}
	}
}

// taken returns the images that are shown to have the name and can be replaced, except
// those that were replaced already. An error wraps ErrUnsettled if one is not available
// yet.
func (n naming[A]) taken(ctx context.Context) ([]Record, error) {
	cloud := n.cloud.In(n.region)
	ids, err := cloud.Named(ctx, n.name)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(ids, func(id ImageID) bool {
		_, gone := findAct(n.undoer, func(a replacedAct) bool { return a.Image == id && a.Region == n.region })
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
