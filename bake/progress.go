package bake

import (
	"context"
	"slices"
	"time"
)

// askEvery is the polling interval of a copy's snapshots: a copy between regions takes minutes at
// least.
const askEvery = 15 * time.Second

// copying is the progress of an image's copy. Clouds do not report it of images, but of the
// snapshots that are made with them.
type copying struct {
	cloud Cloud
	// shared are snapshots that the copy has from its source.
	shared []SnapshotID
	every  time.Duration

	asked time.Time
	ids   []SnapshotID
	far   map[SnapshotID]int
}

// newCopying returns the progress of a copy that may take limit without progress.
func newCopying(cloud Cloud, shared []SnapshotID, limit time.Duration) *copying {
	return &copying{cloud: cloud, shared: shared, every: min(askEvery, limit/4), asked: time.Now(), far: map[SnapshotID]int{}}
}

// of returns the progress of a pending copy in percent, and the sum of its snapshots'
// percentages, which is finer. An error counts as no progress, because the wait is for the
// image.
func (c *copying) of(ctx context.Context, img Image) (percent, sum int) {
	if time.Since(c.asked) >= c.every {
		c.asked = time.Now()
		c.ask(ctx, img)
	}
	for _, id := range c.ids {
		sum += c.far[id]
	}
	return sum / max(1, len(c.ids)), sum
}

// ask reads which snapshots are made with a copy, and their progress.
func (c *copying) ask(ctx context.Context, img Image) {
	ids := slices.Clone(img.Snapshots)
	if len(ids) == 0 {
		ids, _ = c.cloud.FindCopied(ctx, img.ID)
	}
	c.ids = slices.DeleteFunc(ids, func(id SnapshotID) bool { return slices.Contains(c.shared, id) })
	for _, id := range c.ids {
		if c.far[id] == 100 {
			continue
		}
		if s, err := c.cloud.Snapshot(ctx, id); err == nil {
			c.far[id] = max(c.far[id], s.Percent)
		}
	}
}
