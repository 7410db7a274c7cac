//go:build !linux

package bake

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// NewMachine fails: a chroot build needs Linux.
func NewMachine(context.Context, Options) (Machine, error) {
	return nil, fmt.Errorf("a chroot build needs Linux, and this is %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
