package state

import (
	"crypto/sha256"
	"errors"
)

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

// BlockSize is the size of the blocks of the EBS direct APIs, in bytes.
const BlockSize = 512 << 10

// BlockDisks is an optional interface of Disks: the blocks of snapshots. Unlike the methods of
// Disks, WriteBlock may be called concurrently for different blocks of a snapshot, and the reading
// methods for the same snapshot.
type BlockDisks interface {
	// BeginSnapshot creates a snapshot of this size that is written block by block. It is empty,
	// or begins with the blocks of its parent.
	BeginSnapshot(id string, size int64, parent string) error
	// WriteBlock writes a block and its checksum.
	WriteBlock(id string, index int64, data []byte, sum [sha256.Size]byte) error
	// WrittenBlocks returns the number of the blocks that WriteBlock has written, and the SHA-256
	// of their checksums in the order of the blocks.
	WrittenBlocks(id string) (count int64, sum [sha256.Size]byte, err error)
	// SealSnapshot ends the writing. It may be called again.
	SealSnapshot(id string) error
	// PresentBlocks returns the first blocks from an index on that a snapshot has, at most limit,
	// in ascending order.
	PresentBlocks(id string, from int64, limit int) ([]int64, error)
	// ReadBlock reads a block of a snapshot. Data that the snapshot does not have is zero.
	ReadBlock(id string, index int64, data []byte) error
	// DistortVolume writes noise into the blocks of a volume that its snapshot does not have, and
	// DistortFile into those of an exported snapshot.
	DistortVolume(id, snapshot string) error
	DistortFile(file, snapshot string) error
}
