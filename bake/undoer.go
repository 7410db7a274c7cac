package bake

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// The groups of a build's ledger. The names stand in journals.
const (
	// scaffold only exists during the build: device name, volume, attachment, mount.
	scaffold undo.Group = "scaffold"
	// products are the results of the build: snapshot and image, and the images that they
	// replace.
	products undo.Group = "products"
	// sourceCopies holds the copy of a source image that stays for later builds, until it is
	// complete.
	sourceCopies undo.Group = "copy of the source image"
	// replacedSnapshots are the snapshots of replaced images, which are deleted at the end, and the tag of
	// the build on the new snapshot, which is removed then. The name is that in journals.
	replacedSnapshots undo.Group = "snapshots of replaced images"
	// regionPrefix begins the groups of copies, one for each region, which are undone
	// independently of each other.
	regionPrefix = "products in "
)

// productsIn returns the group of the copies in a region.
func productsIn(region string) undo.Group { return undo.Group(regionPrefix + region) }

// An undoer undoes the acts of one build. Build, Reap and Destroy share it.
type undoer struct {
	cloud   Cloud
	machine Machine
	waits   Waits
	report  Reporter
	ledger  *undo.Ledger[recorded]
	// polling is the memory of earlier waits on this host; nil without a state directory.
	polling *polling.Store

	build BuildID
	// account is the id of the account.
	account string
	// lockDir holds the reservations of device names.
	lockDir string
	// since is when the journal of another process's build was begun, and repeated how long
	// that process may have repeated a call after its act was begun. In a build of this
	// process both are zero.
	since    time.Time
	repeated time.Duration
	// regions are the groups of copies.
	regions []undo.Group

	// shown are the resources that the cloud has shown to be the build's: keys of shownKey.
	shown sync.Map
	// free are volumes that were available after they were detached: keys of VolumeID.
	free sync.Map
}

// addRegion returns the group of a region's copies, and has it undone with the others.
func (u *undoer) addRegion(group undo.Group) undo.Group {
	if !slices.Contains(u.regions, group) {
		u.regions = append(u.regions, group)
	}
	return group
}

// groups returns all groups in the order in which they are undone.
func (u *undoer) groups() []undo.Group {
	return append(slices.Clone(u.regions), products, scaffold, sourceCopies, replacedSnapshots)
}

// undoAll undoes everything: the regions side by side, then their source. It returns the
// names of the acts that were undone, and an error that names the rest. It ends with ctx.
func (u *undoer) undoAll(ctx context.Context) (undone []string, err error) {
	var mu sync.Mutex
	var errs []error
	release := func(group undo.Group) {
		err := u.ledger.Release(ctx, group, u.waits.Release, func(name string) {
			u.report.Detail("undone: %s", name)
			event.Emit(ctx, event.Undone{Name: name})
			mu.Lock()
			defer mu.Unlock()
			undone = append(undone, name)
		})
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	var regions sync.WaitGroup
	for _, group := range u.regions {
		regions.Go(func() { release(group) })
	}
	regions.Wait()
	release(products)
	release(scaffold)
	release(sourceCopies)
	release(replacedSnapshots)
	u.restoreUnreached(ctx)
	return undone, errors.Join(errs...)
}

// sinceLast returns how long ago, at least, the last attempt of a call was made that was
// begun at a time.
func (u *undoer) sinceLast(begun time.Time) time.Duration {
	return max(0, time.Since(begun)-u.repeated)
}

// longestRepetition returns how long another process can have repeated a call. A call is
// repeated for the longest if it is throttled; a limit that the user has set is the limit
// of the waits, too.
func longestRepetition(w Waits) time.Duration { return max(retry.ThrottledFor, w.Volume.Limit) }

// searchLimit returns how long the resource of an unanswered request is searched for. A
// request of a killed build may still be under way.
func (u *undoer) searchLimit(c call, name string) time.Duration {
	if c.Answered || c.asked.IsZero() {
		return u.waits.Lost
	}
	limit := max(u.waits.Lost, u.waits.InFlight-u.sinceLast(c.asked))
	if limit > u.waits.Lost {
		u.report.Detail("looking up to %s for the %s: the request for it may still be under way", limit.Round(time.Second), name)
	}
	return limit
}

// in returns the cloud of a region; the build's own if it is empty.
func (u *undoer) in(region string) Cloud {
	if region == "" {
		return u.cloud
	}
	return u.cloud.In(region)
}

// isRegion reports whether a group holds the copies of a region.
func isRegion(group undo.Group) bool { return strings.HasPrefix(string(group), regionPrefix) }
