package chroot

import (
	"context"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/packages"
)

// Packages returns the installed packages of the image.
func (m *MountedRoot) Packages(context.Context) (Packages, error) {
	in, err := m.open()
	if err != nil {
		return Packages{}, err
	}
	defer in.Close()
	return packages.Read(in), nil
}

// Packages returns the installed packages of the image, as MountedRoot.Packages does.
func (r *Remote) Packages(ctx context.Context) (Packages, error) {
	return callPackages.on(ctx, r.session, at[string]{Root: r.path})
}

var callPackages = inRoot("packages", func(ctx context.Context, _ request, m *MountedRoot, _ string) (Packages, error) {
	return m.Packages(ctx)
})
