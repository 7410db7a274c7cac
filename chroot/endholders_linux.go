package chroot

import (
	"context"
	"maps"
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/cgroup"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/holders"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/registration"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rendezvous"
)

// footprint returns the present footprint of the root. A process that has detached its
// mount may still use its file system.
func (m *MountedRoot) footprint() (holders.Footprint, error) {
	numbers, _ := m.presentDevices() // without those that cannot be read
	return holders.Take(m.real, slices.Collect(maps.Values(numbers)), isKeeper)
}

// isKeeper reports whether a process is a keeper, which enters other mount namespaces only
// to unmount its own root there.
func isKeeper(pid int) bool {
	args := procfs.Arguments(pid)
	return len(args) > 1 && args[1] == rendezvous.Arg
}

// endHolders ends the processes that hold the root.
func (m *MountedRoot) endHolders(ctx context.Context) error {
	if m.ender == nil {
		k := m.keeper
		m.ender = holders.New(holders.Options{
			Path: m.real, Footprint: m.footprint, Groups: func() []*cgroup.Group { return k.groupsOf(m) },
			Spared: k.ancestors, Limit: k.busy, Grace: k.graceNow, Log: k.ended,
		})
	}
	return m.ender.End(ctx)
}

// holders returns everything that keeps the root in use, for an error.
func (m *MountedRoot) holders() []string {
	r, err := m.footprint()
	if err != nil {
		return nil
	}
	r.Thorough = true
	var found []string
	for _, h := range r.Holders() {
		found = append(found, h.String())
	}
	found = slices.Concat(found, r.LoopDevices(), holders.SwapFiles(m.real))
	if len(found) == 0 {
		found = m.registrations().Suspects()
	}
	return found
}

// releaseKernel removes the uses of the root's files by the kernel itself that a provisioner
// has left: loop devices, swap files, and registrations.
func (m *MountedRoot) releaseKernel() error {
	r, err := m.footprint()
	if err != nil {
		return err
	}
	for _, device := range r.LoopDevices() {
		m.keeper.ended("detaching %s, which is over a file in %s", device, m.path)
		if err := holders.DetachLoop(device); err != nil {
			return err
		}
	}
	for _, file := range holders.SwapFiles(m.real) {
		m.keeper.ended("ending the swapping to %s", file)
		if err := holders.SwapOff(file); err != nil {
			return err
		}
	}
	if err := m.registrations().RemoveFormats(); err != nil || m.probed {
		return err
	}
	m.probed = true
	return m.registrations().RemoveProbes(func() bool { return m.tryUnmount() == nil })
}

// registrations returns the kernel's registrations by paths of the root's files.
func (m *MountedRoot) registrations() registration.Root {
	return registration.Root{Path: m.real, Name: m.path, Known: m.known, Open: m.open, Log: m.keeper.log}
}
