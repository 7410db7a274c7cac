package bake

import (
	"errors"
	"fmt"
	"time"
)

// errForeign is wrapped if neither the cloud nor the kernel shows that a resource is the
// build's. It is then left alone, whatever a creating call returned and whatever a
// journal says.
var errForeign = errors.New("it is left alone")

// foreign returns the reason why a resource is left alone.
func foreign[ID ~string](id ID, format string, args ...any) error {
	return fmt.Errorf("%s %s: %w", id, fmt.Sprintf(format, args...), errForeign)
}

// undescribed returns the error about a resource of which a Cloud knows only that its
// creating call was answered.
func undescribed[ID ~string](id ID) error {
	return fmt.Errorf("%s is not shown yet: %w", id, ErrNotFound)
}

// shownKey names a resource in a region; the build's own region is empty.
type shownKey struct{ region, id string }

// show notes that the cloud has shown a resource to be the build's.
func (u *undoer) show(region, id string) { u.shown.Store(shownKey{region, id}, true) }

// isShown reports whether the cloud has shown a resource to be the build's.
func (u *undoer) isShown(region, id string) bool {
	_, ok := u.shown.Load(shownKey{region, id})
	return ok
}

// clocksDiffer is more than this host's clock can differ from the cloud's: both
// clouds refuse requests that were signed at another time.
const clocksDiffer = 20 * time.Minute

// older reports whether a resource certainly existed before a time of this host. It
// returns false if one of the times is not known.
func older(created, begun time.Time) bool {
	return !created.IsZero() && !begun.IsZero() && created.Before(begun.Add(-clocksDiffer))
}

// begun returns when an act was begun: never before the journal that it is in.
func (u *undoer) begun(c call) time.Time {
	if c.Begun.Before(u.since) {
		return u.since
	}
	return c.Begun
}

// unseenLimit returns how long reading calls may still not show the resource of an act.
// described means that they have described it before.
func (u *undoer) unseenLimit(c call, described bool) time.Duration {
	if c.over {
		return 0
	}
	if c.Begun.IsZero() || described {
		return u.waits.Lost
	}
	return max(u.waits.Lost, u.waits.Unseen-u.sinceLast(c.Begun))
}
