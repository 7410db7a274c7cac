package osc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	api "github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// isSet reports whether there is a search.
func (f SourceFilterConfig) isSet() bool {
	return len(f.Filters) > 0 || len(f.Owners) > 0 || f.MostRecent
}

// self is the owner that stands for the account of the keys.
const self = "self"

// accountID matches the ID of an account; other owners are aliases.
var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// owners are the accepted owners of the source image, in the API's two forms.
type owners struct{ ids, aliases []string }

func (f SourceFilterConfig) owners(account string) owners {
	var o owners
	for _, name := range f.Owners {
		switch {
		case name == self:
			o.ids = append(o.ids, account)
		case accountID.MatchString(name):
			o.ids = append(o.ids, name)
		default:
			o.aliases = append(o.aliases, name)
		}
	}
	return o
}

// own reports whether an image is one of theirs.
func (o owners) own(i api.Image) bool {
	return slices.Contains(o.ids, i.AccountId) || slices.Contains(o.aliases, value(i.AccountAlias))
}

// check returns the errors in the search before any request; pinned reports whether source_omi is
// given too.
func (f SourceFilterConfig) check(pinned bool) []error {
	if !f.isSet() {
		return nil
	}
	errs := f.search(pinned).Check()
	for i, owner := range f.Owners {
		if owner == "" {
			errs = append(errs, fmt.Errorf("source_omi_filter: owners[%d] is empty, but must be the id of an account, self, or an alias such as Outscale", i))
		}
	}
	_, err := imageFilter(f.Filters)
	return append(errs, joined(err)...)
}

// search returns the search; pinned says that source_omi is given too.
func (f SourceFilterConfig) search(pinned bool) builder.Search {
	return builder.Search{
		Option: "source_omi_filter", Kind: kind, Filters: f.Filters, Owners: f.Owners, MostRecent: f.MostRecent, Pinned: pinned,
	}
}

// Source finds the image to start from, and makes sure that a volume can be made
// of it, or says that it is Locked.
func (c *Cloud) Source(ctx context.Context) (bake.Image, error) {
	found, err := c.findSource(ctx)
	if err != nil {
		return bake.Image{}, err
	}
	img := imageOf(found)
	if err := c.usable(img); err != nil {
		return bake.Image{}, fmt.Errorf("source image %s (%s) cannot be started from: %w", img.ID, img.Name, err)
	}
	if img.Locked, err = c.locked(ctx, found); err != nil {
		return bake.Image{}, err
	}
	img.Details = &found
	return img, nil
}

// detailsOf returns all that the API said of a source image when Source read it; nil if there
// is no source image, or if its details are not known.
func detailsOf(source *bake.Image) *api.Image {
	if source == nil {
		return nil
	}
	details, _ := source.Details.(*api.Image)
	return details
}

func (c *Cloud) findSource(ctx context.Context) (api.Image, error) {
	if c.config.SourceOMIFilter.isSet() {
		return c.searchSource(ctx)
	}
	found, err := c.readImage(ctx, c.config.SourceOMI)
	switch {
	case errors.Is(err, bake.ErrNotFound):
		return found, fmt.Errorf("source_omi %s is no image in region %s that account %s can use: %w",
			c.config.SourceOMI, c.client.Region(), c.client.account, err)
	case err != nil:
		return found, fmt.Errorf("source_omi: %w", err)
	}
	return found, nil
}

// searchSource finds the one image that source_omi_filter wants.
func (c *Cloud) searchSource(ctx context.Context) (api.Image, error) {
	search := c.config.SourceOMIFilter
	from := search.owners(c.client.account)
	found, err := c.matches(ctx, from)
	if err != nil {
		return api.Image{}, fmt.Errorf("source_omi_filter: %w", err)
	}
	found = slices.DeleteFunc(found, func(i api.Image) bool {
		other := c.config.SourceOMI != "" && i.ImageId != c.config.SourceOMI
		return other || !from.own(i) || i.State != api.ImageStateAvailable || !tagged(i, search.Filters)
	})
	if len(found) == 0 {
		return api.Image{}, c.nothingFound()
	}
	return builder.Choose(search.search(c.config.SourceOMI != ""), found, imageOf)
}

// matches asks for the images of the owners that the filters hold for. Filters of
// the API must all hold, so that ids and aliases of owners are asked for apart.
func (c *Cloud) matches(ctx context.Context, from owners) ([]api.Image, error) {
	var all []api.Image
	for _, narrow := range []struct {
		values []string
		by     func(*api.FiltersImage) **[]string
	}{
		{from.ids, func(f *api.FiltersImage) **[]string { return &f.AccountIds }},
		{from.aliases, func(f *api.FiltersImage) **[]string { return &f.AccountAliases }},
	} {
		if len(narrow.values) == 0 {
			continue
		}
		filter, err := imageFilter(c.config.SourceOMIFilter.Filters)
		if err != nil {
			return nil, err
		}
		if by := narrow.by(&filter); *by == nil {
			*by = &narrow.values
		}
		if c.config.SourceOMI != "" && filter.ImageIds == nil {
			filter.ImageIds = &[]string{c.config.SourceOMI}
		}
		found, err := c.readImages(ctx, &filter)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return distinct(all), nil
}

// distinct are the images, each once.
func distinct(all []api.Image) []api.Image {
	seen := map[string]bool{}
	return slices.DeleteFunc(all, func(i api.Image) bool {
		again := seen[i.ImageId]
		seen[i.ImageId] = true
		return again
	})
}

// nothingFound returns the error of a search without a result, with the criteria.
func (c *Cloud) nothingFound() error {
	var wanted []string
	for _, name := range slices.Sorted(maps.Keys(c.config.SourceOMIFilter.Filters)) {
		wanted = append(wanted, fmt.Sprintf("%s %q", name, c.config.SourceOMIFilter.Filters[name]))
	}
	search := fmt.Sprintf("available in region %s and of the owners %s", c.client.Region(), strings.Join(c.config.SourceOMIFilter.Owners, ", "))
	if len(wanted) > 0 {
		search += ", with " + strings.Join(wanted, " and ")
	}
	if c.config.SourceOMI != "" {
		return fmt.Errorf("source_omi %s is not what source_omi_filter wants: no such image is %s", c.config.SourceOMI, search)
	}
	return fmt.Errorf("source_omi_filter finds no image that is %s", search)
}

func (c *Cloud) usable(img bake.Image) error {
	switch {
	case img.State != bake.ImageAvailable:
		return fmt.Errorf("it is %s, not available", img.State)
	case c.config.OMIVirtualizationType != "" && c.config.OMIVirtualizationType != img.Virtualization:
		return fmt.Errorf("its virtualization type is %s, but omi_virtualization_type is %s",
			img.Virtualization, c.config.OMIVirtualizationType)
	case img.Root.Snapshot == "":
		return fmt.Errorf("its root device %s has no snapshot", img.RootDevice)
	}
	return nil
}

// locked reports whether the account may use an image, and not all of its snapshots
// that a build needs: to share an image is not to share its snapshots.
func (c *Cloud) locked(ctx context.Context, i api.Image) (bool, error) {
	if i.AccountId == c.client.account {
		return false, nil
	}
	var needed []string
	if root := rootMapping(i); root != nil {
		needed = mappingSnapshots(*root)
	}
	for _, m := range c.mergedMappings(furtherMappings(i)) {
		needed = append(needed, mappingSnapshots(m)...)
	}
	readable, err := c.readSnapshots(ctx, &api.FiltersSnapshot{SnapshotIds: &needed})
	if err != nil {
		return false, fmt.Errorf("cannot find out whether the snapshots of %s may be used: %w", i.ImageId, err)
	}
	for _, id := range needed {
		if !slices.ContainsFunc(readable, func(s api.Snapshot) bool { return s.SnapshotId == id }) {
			return true, nil
		}
	}
	return false, nil
}
