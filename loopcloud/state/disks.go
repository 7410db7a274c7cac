package state

import "errors"

// ErrBusy is what Disks.Detach wraps when the device is still in use (mounted).
var ErrBusy = errors.New("device is in use")

// ErrDeviceTaken is what Disks.Attach wraps when the device name exists.
var ErrDeviceTaken = errors.New("device name is in use")

// Disks keeps the bytes. Its methods may be called from many goroutines, never
// two at once for the same id.
type Disks interface {
	// CreateVolume makes a volume's bytes: blank, or the snapshot's, of this size.
	CreateVolume(id string, bytes int64, snapshot string) error
	// ResizeVolume grows a volume, attached or not.
	ResizeVolume(id string, bytes int64) error
	DeleteVolume(id string) error
	// AttachVolume makes the block device and answers its node. The name is the
	// one asked for (/dev/sdf); the naming scheme may make it another.
	AttachVolume(id, name string) (path string, err error)
	// DetachVolume takes the device away. It wraps ErrBusy, and changes nothing,
	// while the device is open, unless force.
	DetachVolume(id string, force bool) error
	// CreateSnapshot keeps what has been flushed to the volume.
	CreateSnapshot(id, volume string) error
	CopySnapshot(id, source string) error
	DeleteSnapshot(id string) error
	// ImportSnapshot takes a raw disk.
	ImportSnapshot(id, file string) error
	// ExportSnapshot writes a sparse raw disk of this size.
	ExportSnapshot(id, file string, bytes int64) error
	// ReleaseAll takes away every device that this or an earlier process made for
	// this directory.
	ReleaseAll() error
}
