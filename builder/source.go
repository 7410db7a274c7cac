package builder

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Search is the part of a source filter that both clouds have, with the name of its option.
type Search struct {
	Option string
	Kind   Kind
	// Filters are in the cloud's own form.
	Filters    map[string]string
	Owners     []string
	MostRecent bool
	// Pinned reports whether the image is given by its ID too.
	Pinned bool
}

// Check returns an error if the search could find an image that the user does not mean.
func (s Search) Check() []error {
	var errs []error
	if len(s.Owners) == 0 {
		errs = append(errs, fmt.Errorf("%s: owners is required: anybody can give an %s the name that is looked for", s.Option, s.Kind.Image))
	}
	if len(s.Filters) == 0 && !s.MostRecent && !s.Pinned {
		errs = append(errs, fmt.Errorf("%s: filters is required, or most_recent: an owner has many %ss", s.Option, s.Kind.Image))
	}
	return errs
}

// Choose returns the only image that a search has found, or the newest one with most_recent. Of
// those created at the same time it is the one with the least ID, so that every build takes the
// same. as translates an image. found must not be empty.
func Choose[Image any](s Search, found []Image, as func(Image) bake.Image) (Image, error) {
	sorted := slices.SortedFunc(slices.Values(found), func(a, b Image) int {
		one, other := as(a), as(b)
		return cmp.Or(other.Begun.Compare(one.Begun), cmp.Compare(one.ID, other.ID))
	})
	if len(sorted) > 1 && !s.MostRecent {
		return sorted[0], fmt.Errorf("%s finds %d images, not one: %s; narrow filters or owners, or set most_recent to take the newest",
			s.Option, len(sorted), firstOf(sorted, as))
	}
	return sorted[0], nil
}

// firstOf names the first few of many images.
func firstOf[Image any](all []Image, as func(Image) bake.Image) string {
	const few = 10
	var names []string
	for _, one := range all[:min(few, len(all))] {
		image := as(one)
		names = append(names, fmt.Sprintf("%s (%s, of %s, %s)", image.ID, image.Name, image.Owner, image.Created))
	}
	if more := len(all) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
