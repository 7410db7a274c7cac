package block

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	// Size is the size of a source block in bytes. It is the block size of EBS snapshots.
	Size = 512 << 10
	// PageSize is the unit in which writes are tracked.
	PageSize = 4 << 10
	// Pages is the number of pages of a block.
	Pages = Size / PageSize
)

// Sum is the SHA-256 checksum of a block.
type Sum = [sha256.Size]byte

// Range is a range of consecutive blocks.
type Range struct {
	First, Count int64
}

// Source is the origin of a disk's initial content. Its blocks never change. Methods are
// called by several goroutines at once.
type Source interface {
	// List returns the present blocks with an index of at least from, or a first part of
	// them, in ascending order. The next call continues at next, which is -1 at the end.
	// Blocks that are not present read as zeros.
	List(ctx context.Context, from int64) (present []Range, next int64, err error)
	// Fetch reads a present block into p, which has Size bytes, and returns the checksum
	// that the source gives for it. The caller verifies the checksum and retries errors,
	// so an implementation should not retry. An error that a retry cannot change wraps
	// ErrPermanent.
	Fetch(ctx context.Context, index int64, p []byte) (Sum, error)
}

var (
	// ErrPermanent is wrapped by the errors of a Source that are not worth a retry, such as
	// missing permissions.
	ErrPermanent = errors.New("permanent error")
	// ErrChecksum is wrapped by the error for a block that differs from its checksum.
	ErrChecksum = errors.New("the block does not have the checksum of its source")
)

// DiskError is the first read or write of a disk that failed for good.
type DiskError struct {
	// Write reports whether a write failed.
	Write bool
	// Index is the block. It is -1 for a failure of the whole disk.
	Index int64
	// Attempts is the number of requests to the source.
	Attempts int
	// Reason is the text of the last error.
	Reason string
}

// Error implements error.
func (f *DiskError) Error() string {
	if f.Index < 0 {
		return "the disk has failed: " + f.Reason
	}
	what := "read"
	if f.Write {
		what = "write"
	}
	text := fmt.Sprintf("cannot %s block %d of the disk (bytes %d to %d)", what, f.Index, f.Index*Size, (f.Index+1)*Size-1)
	if f.Attempts > 0 {
		text += fmt.Sprintf(" after %d attempts", f.Attempts)
	}
	return text + ": " + f.Reason
}

// IsZero reports whether p holds only zeros.
func IsZero(p []byte) bool {
	const step = 4096
	var zeros [step]byte
	for len(p) > step {
		if string(p[:step]) != string(zeros[:]) {
			return false
		}
		p = p[step:]
	}
	return string(p) == string(zeros[:len(p)])
}
