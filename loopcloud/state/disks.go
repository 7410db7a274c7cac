package state

import "errors"

// ErrBusy is wrapped by the error of Disks.Detach if the device is in use (mounted).
var ErrBusy = errors.New("device is in use")

// ErrDeviceTaken is wrapped by the error of Disks.Attach if the device name exists.
var ErrDeviceTaken = errors.New("device name is in use")

// Disks stores the data of volumes and snapshots. Its methods may be called concurrently, but
// never twice at once for the same ID.
type Disks interface {
	// CreateVolume creates a volume of this size, blank or with the content of a snapshot.
	CreateVolume(id string, bytes int64, snapshot string) error
	// ResizeVolume grows a volume, attached or not.
	ResizeVolume(id string, bytes int64) error
	DeleteVolume(id string) error
	// AttachVolume creates the block device and returns its node. The name is the requested one
	// (/dev/sdf); the naming scheme may change it.
	AttachVolume(id, name string) (path string, err error)
	// DetachVolume removes the device. If the device is open and force is not set, it changes
	// nothing and returns an error that wraps ErrBusy.
	DetachVolume(id string, force bool) error
	// CreateSnapshot stores the flushed data of a volume.
	CreateSnapshot(id, volume string) error
	CopySnapshot(id, source string) error
	DeleteSnapshot(id string) error
	// ImportSnapshot stores a raw disk.
	ImportSnapshot(id, file string) error
	// ExportSnapshot writes a sparse raw disk of this size.
	ExportSnapshot(id, file string, bytes int64) error
	// ReleaseAll removes every device that this or an earlier process created for this directory.
	ReleaseAll() error
}
