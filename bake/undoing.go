package bake

import (
	"context"
	"errors"
)

// undoing removes what a creating call has made. Nothing is removed that is not shown to
// be the build's.
type undoing[ID ~string] struct {
	// own returns nil if the cloud shows that a resource is the act's.
	own func(context.Context, ID) error
	// basis, if not nil, returns nil if the cloud shows that what the resource was made
	// of is the build's: then find lists all that the act can have made.
	basis func(context.Context) error
	// find lists what the act may have made.
	find func(context.Context) ([]ID, error)
	// remove removes a resource.
	remove func(context.Context, ID) error
	// gone, if not nil, removes what may be left of a resource that is gone.
	gone func(context.Context) error
}

// of undoes an act whose creating call was answered with an id; empty if with none. If
// the answer was wrong, what was made is found otherwise.
func (u undoing[ID]) of(ctx context.Context, b *build, a act, answered ID) error {
	if answered == "" {
		some, err := u.found(ctx, b, a)
		return nothingIf(!some, err)
	}
	err := u.own(ctx, answered)
	switch {
	case err == nil:
		return u.remove(ctx, answered)
	case errors.Is(err, ErrNotFound):
		return u.missing(ctx, b, a, answered)
	case !errors.Is(err, errForeign) || b.reaping != nil && u.basis == nil:
		return err
	}
	if u.basis != nil {
		if wrong := u.basis(ctx); wrong != nil {
			return errors.Join(err, wrong) // what is listed tells nothing
		}
	}
	b.report.Warn("%v", err)
	some, err := u.found(ctx, b, a)
	return nothingIf(!some, err)
}

// missing deals with a resource that the cloud does not tell of. What this process was
// answered with, and nothing else was found, is asked to be removed all the same: a new
// resource may not be shown yet, and one of somebody else is.
func (u undoing[ID]) missing(ctx context.Context, b *build, a act, id ID) error {
	some, err := u.found(ctx, b, a)
	switch {
	case err != nil || some:
		return err
	case b.reaping == nil:
		return u.remove(ctx, id)
	case u.gone != nil:
		return u.gone(ctx)
	}
	return nothingIf(true, nil)
}

// found looks for what an act may have made, and removes what is the act's. It reports
// whether anything was.
func (u undoing[ID]) found(ctx context.Context, b *build, a act) (some bool, err error) {
	ids, err := lost(ctx, b.patience(a), u.find)
	if err == nil && len(ids) > 0 && u.basis != nil {
		err = u.basis(ctx)
	}
	if err != nil {
		return false, ignoreGone(err)
	}
	var errs []error
	for _, id := range ids {
		err := u.own(ctx, id)
		if err == nil {
			some, err = true, u.remove(ctx, id)
		}
		if errors.Is(err, errForeign) {
			b.report.Warn("%v", err)
			continue
		}
		errs = append(errs, ignoreGone(err))
	}
	return some, errors.Join(errs...)
}

// ignoreGone makes what is gone no error.
func ignoreGone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
