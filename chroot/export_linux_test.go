package chroot

import (
	"context"
	"errors"
	"os"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// WithoutGroups has the keeper of a root be on a host that has no cgroup v2.
func (m *MountedRoot) WithoutGroups() {
	m.keeper.newGroup = func() (*cgroup.Group, error) { return nil, errors.ErrUnsupported }
}

// WithDeadGroups makes it create cgroups in which nothing can be started.
func (m *MountedRoot) WithDeadGroups() {
	m.keeper.newGroup = func() (*cgroup.Group, error) {
		g, err := cgroup.New()
		if err != nil {
			return nil, err
		}
		return g, os.Remove(g.Path())
	}
}

// TakeForAParent makes the keeper record a process as its parent, with another start time.
func (m *MountedRoot) TakeForAParent(pid int) { m.keeper.ancestors[pid] = "long ago" }

// Leave leaves the root through its own keeper.
func (m *MountedRoot) Leave(ctx context.Context) error { return m.keeper.Leave(ctx, m.path) }

// DownloadDirFor is DownloadDir by the keeper of another user's plugin.
func (m *MountedRoot) DownloadDirFor(ctx context.Context, src, dst string, uid int) error {
	return m.downloadDirFor(ctx, src, dst, nil, transfer.Owner{UID: uid, GID: uid})
}
