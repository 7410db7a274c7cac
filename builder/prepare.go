package builder

import (
	"context"
	"slices"
	"strings"
)

// Prepare decodes the options of one cloud's builder into c, fills in the defaults, and returns
// everything that is wrong at once. job is the builder's own Options.Job; check returns the
// warnings and the errors of the options that only this cloud has. The names of the functions that
// it calls begin with "check" or end in "Warnings": TestEveryOptionIsRead does not count them as uses
// of an option.
func Prepare[C any](c *C, job func() Job, check func() (warnings []string, errs []error), raws ...any) (warnings []string, err error) {
	var none C
	*c = none
	empty := job()
	common, kind := empty.Config, empty.Kind
	usable, err := Decode(c, common, kind, empty.labelOptions(), raws...)
	if !usable {
		return nil, Join([]error{err})
	}
	errs := append([]error{err}, common.Prepare(kind)...)
	warnings, wrong := check()
	decoded := job()
	return warnings, Join(slices.Concat(errs, wrong,
		[]error{kind.CheckName(kind.option("name"), decoded.ImageName)},
		decoded.CheckLabels(),
	))
}

// option returns the name of an option that begins with the cloud's word for an image, such as
// ami_name.
func (k Kind) option(name string) string { return strings.ToLower(k.Image) + "_" + name }

// Connect connects to the cloud for the command reap, which has no template.
func (p Plugin) Connect(ctx context.Context, to Reach) (Session, error) {
	options := p.Options()
	options.SetReach(to)
	job := options.Job()
	job.Config.waitLimit = to.WaitLimit
	return job.Connect(ctx, nil)
}
