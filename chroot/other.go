//go:build !linux

package chroot

// MaybeRunKeeper does nothing where there are no roots to keep: a chroot build needs
// Linux.
func MaybeRunKeeper() {}

// SweepSockets does nothing there either.
func SweepSockets() {}
