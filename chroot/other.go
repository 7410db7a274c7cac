//go:build !linux

package chroot

// MaybeKeep does nothing where there are no roots to keep: a chroot build needs
// Linux.
func MaybeKeep() {}

// SweepSockets does nothing there either.
func SweepSockets() {}
