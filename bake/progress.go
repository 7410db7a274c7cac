package bake

import (
	"context"
	"slices"
	"time"
)

const (
	// stride is how many percent further something must be to be told of again.
	stride = 10
	// silence is how long nothing is said of something that gets on, if it takes longer
	// than this for a stride.
	silence = 10 * time.Minute
	// askEvery is how long a copy's snapshots are not asked again how far they are: a copy
	// between regions takes minutes at least.
	askEvery = 15 * time.Second
)

// A pacer decides when a user is told how far something is: lines in a log stay, so
// that each new percent would be too many.
type pacer struct {
	told  int
	since time.Time
}

// due reports whether the user is to be told of a percentage now.
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

// copying is how far the copy of an image is. Clouds do not tell it of images, but of
// the snapshots that are made with them.
type copying struct {
	cloud Cloud
	// shared are snapshots that the copy has from its source.
	shared []SnapshotID
	every  time.Duration

	asked time.Time
	ids   []SnapshotID
	far   map[SnapshotID]int
}

// newCopying is for a copy whose wait ends after patience without progress.
func newCopying(cloud Cloud, shared []SnapshotID, patience time.Duration) *copying {
	return &copying{cloud: cloud, shared: shared, every: min(askEvery, patience/4), asked: time.Now(), far: map[SnapshotID]int{}}
}

// of returns how far the pending copy is, in percent, and as the sum of its snapshots'
// percentages, which tells progress that the first is too coarse for. What cannot be
// read counts as no progress: it is the image that is waited for.
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

// ask asks which snapshots are made with a copy, and how far they are.
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
