package bake

import (
	"context"
	"fmt"
)

// imageAvailable waits for an image and returns it. mismatch returns why it cannot be the
// requested one.
func (u *undoer) imageAvailable(ctx context.Context, cloud Cloud, id ImageID, mismatch func(Image) error) (img Image, err error) {
	err = u.watch(ctx, u.waits.Image, imageWait, fmt.Sprintf("image %s", id), tolerateUnseen(u.waits.Unseen, func(ctx context.Context) (observation, error) {
		var seen observation
		img, seen, err = observeImage(ctx, cloud, id, mismatch)
		return seen, err
	}))
	return img, err
}

// observeImage reads an image once. mismatch returns why it cannot be the requested one.
func observeImage(ctx context.Context, cloud Cloud, id ImageID, mismatch func(Image) error) (Image, observation, error) {
	img, err := cloud.Image(ctx, id)
	if err == nil {
		err = mismatch(img)
	}
	if err == nil && img.State == ImageFailed {
		err = failure(string(img.State), img.Reason)
	}
	return img, observation{state: string(img.State), done: img.State == ImageAvailable}, err
}

// failure returns the error of a state that is final.
func failure(state, reason string) error {
	if reason == "" {
		reason = "the cloud gives no reason"
	}
	return fmt.Errorf("its state is %s: %s", state, reason)
}

// imageGone waits until the cloud does not show an image any more.
func (u *undoer) imageGone(ctx context.Context, cloud Cloud, id ImageID) error {
	return u.watch(ctx, u.waits.Image, goneWait, fmt.Sprintf("image %s to be gone", id), goneIsDone(func(ctx context.Context) (observation, error) {
		img, err := cloud.Image(ctx, id)
		return observation{state: string(img.State)}, err
	}))
}
