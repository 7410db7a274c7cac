package bake

import (
	"context"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// listPackages emits an event with the packages of the image, if the plan wants that. A failure
// is only reported.
func (b *build) listPackages(ctx context.Context, root mountedRoot, after bool) {
	if !b.plan.ListPackages {
		return
	}
	begun := time.Now()
	list, err := root.Packages(ctx)
	if err != nil {
		list.Problems = append(list.Problems, err.Error())
	}
	e := event.Packages{After: after, Databases: list.Databases, Problems: list.Problems, Took: time.Since(begun)}
	for _, p := range list.Installed {
		e.Installed = append(e.Installed, event.Package{Manager: p.Manager, Name: p.Name, Version: p.Version, Arch: p.Arch})
	}
	event.Emit(ctx, e)
}
