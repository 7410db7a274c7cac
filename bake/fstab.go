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

// mountFstab mounts the file systems of the disk that are in the image's fstab. Mounts of
// post_mount_commands stay, and targets of chroot_mounts are left to these.
func (b *build) mountFstab(ctx context.Context, root mountedRoot) error {
	fstab, err := b.fstab(ctx, root)
	if err != nil || fstab == "" {
		return err
	}
	mounts, err := b.machine.FstabMounts(root.disk.Node, fstab)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if err := b.mountEntry(ctx, root, m); err != nil {
			return err
		}
	}
	return nil
}

// mountEntry mounts one entry, unless something is or will be mounted there. An entry
// that cannot be mounted is a warning, or an error if the build needs it.
func (b *build) mountEntry(ctx context.Context, root mountedRoot, m disk.FstabMount) error {
	if b.plan.mountsOn(m.Target) {
		return nil
	}
	if mounted, err := root.IsMounted(ctx, m.Target); err != nil || mounted {
		return err
	}
	var err error
	if m.Lack != "" {
		err = errors.New(m.Lack)
	} else {
		err = root.MountBelow(ctx, below(m))
	}
	switch {
	case err == nil:
		b.report.Detail("mounted %s on %s, as the image's fstab has it", m.Device, m.Target)
	case ctx.Err() != nil || errors.Is(err, chroot.ErrKeeperLost):
		return err
	case needed(m, err):
		return fmt.Errorf("the image's fstab mounts %s from %s (mount it by post_mount_commands, or turn this off by mount_fstab = false): %w", m.Target, m.Spec, err)
	default:
		b.report.Warn("going on without %s, which the image's fstab mounts from %s: %v; what the build writes there will be hidden in the image", m.Target, m.Spec, err)
	}
	if m.Note != "" {
		b.report.Warn("%s of the image's fstab is mounted from %s, but %s", m.Target, m.Spec, m.Note)
	}
	return nil
}

// needed reports whether a build fails because an entry cannot be mounted: without /usr
// there are no programs to run, and a /boot that is on the disk must be written to.
func needed(m disk.FstabMount, err error) bool {
	switch m.Target {
	case "/usr":
		return true
	case "/boot", "/boot/efi":
		return m.Lack == "" && (!m.Optional || !errors.Is(err, chroot.ErrNoFileSystem))
	}
	return false
}

func below(m disk.FstabMount) chroot.Submount {
	return chroot.Submount{Type: m.Type, Source: m.Device, Target: m.Target, Options: m.Options, OfDisk: true}
}

// mountsOn reports whether the user's own mounts have the target.
func (p Plan) mountsOn(target string) bool {
	return slices.ContainsFunc(p.Mounts, func(m chroot.Submount) bool { return path.Clean("/"+m.Target) == target })
}

// fstab reads the image's fstab. The build continues if it cannot be read, because an image
// may have anything in its place.
func (b *build) fstab(ctx context.Context, root mountedRoot) (string, error) {
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

// bounded is a buffer of limited size.
type bounded struct{ text strings.Builder }

func (w *bounded) Write(p []byte) (int, error) {
	if w.text.Len()+len(p) > 1<<20 {
		return 0, errors.New("it is longer than 1 MiB")
	}
	return w.text.Write(p)
}
