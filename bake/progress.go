package bake

import (
	"context"
	"slices"
	"time"
)

const (
	// stride is the number of percent after which progress is reported again.
	stride = 10
	// silence is the time after which progress is reported again, even if it is less than a
	// stride.
	silence = 10 * time.Minute
	// askEvery is the polling interval of a copy's snapshots: a copy between regions takes
	// minutes at least.
	askEvery = 15 * time.Second
)

// A pacer limits how often progress is reported: lines in a log stay, so that a line for
// each percent would be too many.
type pacer struct {
	told  int
	since time.Time
}

// due reports whether a percentage is to be reported now.
func (p *pacer) due(percent int, now time.Time) bool {
	first := p.since.IsZero()
	if percent < 0 || !first && percent <= p.told {
		return false
	}
	if !first && percent/stride == p.told/stride && now.Sub(p.since) < silence {
		return false
	}
	p.told, p.since = percent, now
	return true
}

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
