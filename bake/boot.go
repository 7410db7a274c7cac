package bake

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// mountBoot mounts /boot and /boot/efi of the image's fstab. What post_mount_commands
// have mounted there stays, and what chroot_mounts say is left to them.
func (b *build) mountBoot(ctx context.Context, root place) error {
	fstab, err := b.fstab(ctx, root)
	if err != nil || fstab == "" {
		return err
	}
	mounts, err := b.machine.Boot(root.disk.Node, fstab)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Lack != "" {
			b.report.Warn("going on without %s of the image's fstab: %s", m.Target, m.Lack)
			continue
		}
		if b.plan.mountsOn(m.Target) {
			continue
		}
		if err := b.mountBelow(ctx, root, below(m)); err != nil {
			return fmt.Errorf("the image's fstab has %s (mount_boot = false turns it off): %w", m.Target, err)
		}
	}
	return nil
}

func below(m disk.BootMount) chroot.ExtraMount {
	return chroot.ExtraMount{
		Type: m.Type, Source: m.Device, Target: m.Target, Options: m.Options,
		Optional: m.Optional, Unless: true,
	}
}

// mountsOn tells whether the user's own mounts have the target.
func (p Plan) mountsOn(target string) bool {
	return slices.ContainsFunc(p.Mounts, func(m chroot.ExtraMount) bool { return path.Clean("/"+m.Target) == target })
}

// fstab reads the image's fstab. One that cannot be read is done without: an image
// may have anything in its place.
func (b *build) fstab(ctx context.Context, root place) (string, error) {
	var read bounded
	switch err := root.Download(ctx, "/etc/fstab", &read); {
	case err == nil:
		return read.text.String(), nil
	case ctx.Err() != nil:
		return "", err
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	default:
		b.report.Warn("going on without the image's fstab: %v", err)
		return "", nil
	}
}

// bounded takes no more than an fstab can sensibly have.
type bounded struct{ text strings.Builder }

func (w *bounded) Write(p []byte) (int, error) {
	if w.text.Len()+len(p) > 1<<20 {
		return 0, errors.New("it is longer than 1 MiB")
	}
	return w.text.Write(p)
}
