package bake

import (
	"context"
	"errors"

	"github.com/packer-chroot/packer-plugin-chroot/undo"
)

// creation undoes a request that creates a resource. A resource is removed only if the
// cloud shows that it is the build's.
type creation[ID ~string] struct {
	call
	// name is the name of the act, and id the answer to its request; empty without one.
	name string
	id   ID
	// own returns nil if the cloud shows that a resource is the act's.
	own func(context.Context, ID) error
	// source, if not nil, returns nil if the cloud shows that the source of the resource is
	// the build's: then find lists everything that the act can have created.
	source func(context.Context) error
	// find lists the resources that the act may have created.
	find func(context.Context) ([]ID, error)
	// remove removes a resource.
	remove func(context.Context, ID) error
}

// undo undoes the creation in the process that requested it. If the cloud does not show the
// resource of the answer, and nothing else was found, its removal is requested all the
// same: a new resource may not be shown yet, and a resource of another build is.
func (c creation[ID]) undo(ctx context.Context, u *undoer) error {
	return c.undoBy(ctx, u, c.sourceShown, func(ctx context.Context) error { return c.remove(ctx, c.id) })
}

// undoInherited undoes the creation for a build whose process has ended. gone removes the
// parts that a resource which is gone may have left; nil if it has none.
func (c creation[ID]) undoInherited(ctx context.Context, u *undoer, gone func(context.Context) error) error {
	if gone == nil {
		gone = func(context.Context) error { return undo.ErrNothing }
	}
	trusted := c.sourceShown
	if c.source == nil {
		trusted = func(_ context.Context, foreign error) error { return foreign }
	}
	return c.undoBy(ctx, u, trusted, gone)
}

// sourceShown returns an error if a list of resources cannot be trusted, after the
// resource of the answer has turned out not to be the act's.
func (c creation[ID]) sourceShown(ctx context.Context, foreign error) error {
	if c.source == nil {
		return nil
	}
	if wrong := c.source(ctx); wrong != nil {
		return errors.Join(foreign, wrong)
	}
	return nil
}

// undoBy undoes the creation. If the answer was wrong, the resource is searched for, unless
// trusted returns an error. unshown deals with a resource that the cloud does not show.
func (c creation[ID]) undoBy(ctx context.Context, u *undoer, trusted func(context.Context, error) error, unshown func(context.Context) error) error {
	if c.id == "" {
		some, err := c.removeFound(ctx, u)
		return nothingIf(!some, err)
	}
	err := c.own(ctx, c.id)
	switch {
	case err == nil:
		return c.remove(ctx, c.id)
	case errors.Is(err, ErrNotFound):
		if some, err := c.removeFound(ctx, u); err != nil || some {
			return err
		}
		return unshown(ctx)
	case !errors.Is(err, errForeign):
		return err
	}
	if err := trusted(ctx, err); err != nil {
		return err
	}
	u.report.Warn("%v", err)
	some, err := c.removeFound(ctx, u)
	return nothingIf(!some, err)
}

// removeFound searches for resources that the act may have created, and removes those that
// are the act's. It reports whether there were any.
func (c creation[ID]) removeFound(ctx context.Context, u *undoer) (some bool, err error) {
	ids, err := search(ctx, u.searchLimit(c.call, c.name), c.find)
	if err == nil && len(ids) > 0 && c.source != nil {
		err = c.source(ctx)
	}
	if err != nil {
		return false, ignoreGone(err)
	}
	var errs []error
	for _, id := range ids {
		err := c.own(ctx, id)
		if err == nil {
			some, err = true, c.remove(ctx, id)
		}
		if errors.Is(err, errForeign) {
			u.report.Warn("%v", err)
			continue
		}
		errs = append(errs, ignoreGone(err))
	}
	return some, errors.Join(errs...)
}

// ignoreGone returns nil for an error that means that a resource is gone.
func ignoreGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// nothingIf returns undo.ErrNothing instead of nil if there was nothing to undo.
func nothingIf(none bool, err error) error {
	if none && err == nil {
		return undo.ErrNothing
	}
	return err
}
