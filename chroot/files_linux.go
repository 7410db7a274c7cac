package chroot

import (
	"context"
	"fmt"
	"io"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/transfer"
)

// open opens the root. It must be closed before the root can be left.
func (m *MountedRoot) open() (*rootfs.Root, error) {
	if err := m.visible(); err != nil {
		return nil, err
	}
	return rootfs.OpenRoot(m.real, m.path)
}

// inside calls do with the open root.
func (m *MountedRoot) inside(do func(in *rootfs.Root) error) error {
	in, err := m.open()
	if err != nil {
		return err
	}
	defer in.Close()
	return do(in)
}

// Upload implements Root.
func (m *MountedRoot) Upload(ctx context.Context, dst string, src io.Reader, file NewFile) error {
	err := m.inside(func(in *rootfs.Root) error {
		return transfer.Upload(ctx, in, dst, src, file, &m.uploads)
	})
	if err != nil {
		return fmt.Errorf("cannot upload to %s: %w", dst, err)
	}
	return nil
}

// Download implements Root.
func (m *MountedRoot) Download(ctx context.Context, src string, dst io.Writer) error {
	err := m.inside(func(in *rootfs.Root) error { return transfer.Download(ctx, in, src, dst) })
	if err != nil {
		return fmt.Errorf("cannot download %s: %w", src, err)
	}
	return nil
}

// UploadDir implements Root.
func (m *MountedRoot) UploadDir(ctx context.Context, dst, src string, exclude []string) error {
	err := m.inside(func(in *rootfs.Root) error {
		return transfer.UploadDir(ctx, in, dst, src, exclude, &m.uploads)
	})
	if err != nil {
		return fmt.Errorf("cannot upload the directory %s to %s: %w", src, dst, err)
	}
	return nil
}

// DownloadDir implements Root.
func (m *MountedRoot) DownloadDir(ctx context.Context, src, dst string, exclude []string) error {
	return m.downloadDirFor(ctx, src, dst, exclude, transfer.Owner{})
}

// downloadDirFor is DownloadDir for a user, to whom the copy belongs.
func (m *MountedRoot) downloadDirFor(ctx context.Context, src, dst string, exclude []string, whose transfer.Owner) error {
	err := m.inside(func(in *rootfs.Root) error { return transfer.DownloadDir(ctx, in, src, dst, exclude, whose) })
	if err != nil {
		return fmt.Errorf("cannot download the directory %s to %s: %w", src, dst, err)
	}
	return nil
}

// RemoveUploads removes the files that Upload and UploadDir created below /tmp and
// /var/tmp and that are unchanged, such as scripts that Packer's provisioners could not
// remove. A changed file stays, and so does a directory that holds anything else.
func (m *MountedRoot) RemoveUploads(ctx context.Context) error {
	return m.inside(func(in *rootfs.Root) error { return m.uploads.Remove(ctx, in) })
}
