package lazydisk

import (
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cow"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/rpc"
)

// The requests of a client to its block server, and opFailed, which goes the other way.
const (
	// opChanges returns the indexes of changed blocks, beginning with the argument.
	opChanges = rpc.FirstOwn + iota
	// opChange returns a changed block.
	opChange
	// opSync fails unless the device is detached and everything that was written can be read.
	opSync
	opStats
	opFailure
	opFailed
)

// changesPart is the number of indexes in a reply to opChanges.
const changesPart = 8192

// changes is the reply to opChanges. More is false at the end.
type changes struct {
	Indexes []int64
	More    bool
}

// blockBuffers holds buffers for blocks.
var blockBuffers = sync.Pool{New: func() any { return new([block.Size]byte) }}

// The flags of a changed block in a reply to opChange, which is the flags, the checksum and the
// content.
const (
	flagZero = 1 << iota
	flagInParent
	flagEqual
)

func encodeFlags(c cow.Change) (flags byte) {
	if c.Zero {
		flags |= flagZero
	}
	if c.InParent {
		flags |= flagInParent
	}
	if c.Equal {
		flags |= flagEqual
	}
	return flags
}

func decodeFlags(index int64, flags byte) cow.Change {
	return cow.Change{Index: index, Zero: flags&flagZero != 0, InParent: flags&flagInParent != 0, Equal: flags&flagEqual != 0}
}
