package chroot

import (
	"context"

	"github.com/moby/sys/mountinfo"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/selinux"
)

// SELinuxContexts returns the consequences of the build for the SELinux contexts of the image's files.
// If search is true, it looks for files without a context that were created since the root was mounted.
func (m *MountedRoot) SELinuxContexts(ctx context.Context, search bool) (SELinuxContexts, error) {
	in, err := m.open()
	if err != nil {
		return SELinuxContexts{}, err
	}
	defer in.Close()
	return selinux.Root{Root: in, Since: m.since, Mounts: m.ownMounts}.Examine(ctx, search)
}

// ownMounts returns the ids of the mounts of the root and of further file systems of its
// disk, but not of those of the host.
func (m *MountedRoot) ownMounts() (map[uint64]bool, error) {
	r, err := m.footprint()
	if err != nil {
		return nil, err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(m.real))
	own := map[uint64]bool{}
	for _, mount := range mounts {
		if r.Devices[mounttable.Device(mount)] {
			own[uint64(mount.ID)] = true
		}
	}
	return own, err
}
