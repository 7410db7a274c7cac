package ebsdirect

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// Target is a started snapshot to write to.
type Target struct {
	Started
	// HasParent reports whether the snapshot has a parent.
	HasParent bool
	// Base is the origin of the blocks that are not written, if there is no parent: Complete
	// copies them. Nil is a snapshot that begins with zeros.
	Base *Source
}

// Block is a block that was changed.
type Block struct {
	Index int64
	Sum   block.Sum
	// Data is only used until Write returns.
	Data []byte
	// Zero reports whether the block has only zeros, and Present whether the parent or the base
	// has the block.
	Zero, Present bool
	// Equal reports whether the block is equal to that of the parent or the base.
	Equal bool
}

// Upload is a snapshot that is being written. Blocks can be written by many goroutines.
type Upload struct {
	client *Client
	Target

	mu   sync.Mutex
	sums map[int64]block.Sum
	// left are blocks that need not be written.
	left    map[int64]bool
	writing int
	failed  error
	sealed  bool
}

// Upload returns a started snapshot as a target of blocks. It makes no request.
func (c *Client) Upload(t Target) *Upload {
	return &Upload{client: c, Target: t, sums: map[int64]block.Sum{}, left: map[int64]bool{}}
}

// known reports whether EBS must know the snapshot by now.
func (u *Upload) known() bool { return u.client.now().Sub(u.At) >= retry.UnseenFor }

// needs reports whether a block must be written. A block that is not written is the parent's or,
// without a parent, zeros, unless the snapshot is encrypted: then it may be noise.
func (u *Upload) needs(b Block) bool {
	switch {
	case u.HasParent && b.Equal:
		return false
	case !b.Zero || u.Encrypted:
		return true
	default:
		return u.HasParent && b.Present
	}
}

// Write writes a changed block, if that is necessary. After an error the snapshot cannot be completed.
func (u *Upload) Write(ctx context.Context, b Block) error {
	if !u.needs(b) {
		return u.leave(b)
	}
	if err := u.begin(); err != nil {
		return err
	}
	return u.end(b, u.put(ctx, b))
}

// leave notes a block that is not written.
func (u *Upload) leave(b Block) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, written := u.sums[b.Index]; written {
		return fmt.Errorf("block %d of %s is changed twice", b.Index, u.ID)
	}
	u.left[b.Index] = true
	return nil
}

var errSealed = errors.New("the snapshot is complete")

// begin notes that a block is being written.
func (u *Upload) begin() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.sealed {
		return fmt.Errorf("cannot write to %s: %w", u.ID, errSealed)
	}
	u.writing++
	return nil
}

// end notes the result of writing a block.
func (u *Upload) end(b Block, err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.writing--
	if err != nil {
		err = u.client.Cannot(err, "write block %d of %s", b.Index, u.ID)
		u.failed = cmp.Or(u.failed, err)
		return err
	}
	u.sums[b.Index] = b.Sum
	delete(u.left, b.Index)
	return nil
}

// put writes a block.
func (u *Upload) put(ctx context.Context, b Block) error {
	if len(b.Data) != block.Size {
		return fmt.Errorf("the block has %d bytes, not %d", len(b.Data), block.Size)
	}
	return u.client.do(ctx, "PutSnapshotBlock", u.known(), func(ctx context.Context) error {
		data := newBody(b.Data)
		defer data.retire()
		out, err := u.client.calls.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
			SnapshotId: aws.String(u.ID), BlockIndex: aws.Int32(int32(b.Index)), DataLength: aws.Int32(block.Size), BlockData: data,
			Checksum: encodeSum(b.Sum), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
		})
		if err != nil {
			return err
		}
		if sum, err := decodeSum(out.Checksum, out.ChecksumAlgorithm); err != nil || sum != b.Sum {
			return fmt.Errorf("%w: EBS has received another block: %w", block.ErrChecksum, err)
		}
		return nil
	})
}

// Blocks returns the number of blocks that were written, and of changed blocks that need not be
// written.
func (u *Upload) Blocks() (written, left int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return int64(len(u.sums)), int64(len(u.left))
}

// Complete copies the blocks of the base that were not written, if there is one, and asks EBS to
// complete the snapshot. It returns an error if a block could not be written, or if one is being
// written. EBS verifies the blocks after that: the snapshot is complete when EC2 shows it so.
func (u *Upload) Complete(ctx context.Context) error {
	if err := u.check(); err != nil {
		return err
	}
	if err := u.fill(ctx); err != nil {
		return err
	}
	in, err := u.seal()
	if err != nil {
		return err
	}
	var out *ebs.CompleteSnapshotOutput
	err = u.client.do(ctx, "CompleteSnapshot", u.known(), func(ctx context.Context) (err error) {
		out, err = u.client.calls.CompleteSnapshot(ctx, in)
		return err
	})
	if err == nil && out.Status == types.StatusError {
		err = errors.New("its status is error")
	}
	if err != nil {
		return u.client.Cannot(err, "complete %s", u.ID)
	}
	return nil
}

// check returns an error if blocks are missing.
func (u *Upload) check() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.missing()
}

// missing returns an error if a block could not be written, or if one is being written. The caller
// holds the lock.
func (u *Upload) missing() error {
	switch {
	case u.failed != nil:
		return fmt.Errorf("%s is not complete: %w", u.ID, u.failed)
	case u.writing > 0:
		return fmt.Errorf("%s is not complete: %d blocks are being written", u.ID, u.writing)
	}
	return nil
}

// seal ends the writing and returns the request that completes the snapshot.
func (u *Upload) seal() (*ebs.CompleteSnapshotInput, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.missing(); err != nil {
		return nil, err
	}
	u.sealed = true
	in := &ebs.CompleteSnapshotInput{SnapshotId: aws.String(u.ID), ChangedBlocksCount: aws.Int32(int32(len(u.sums)))}
	if len(u.sums) > 0 {
		in.Checksum = encodeSum(aggregate(u.sums))
		in.ChecksumAlgorithm = types.ChecksumAlgorithmChecksumAlgorithmSha256
		in.ChecksumAggregationMethod = types.ChecksumAggregationMethodChecksumAggregationLinear
	}
	return in, nil
}

// aggregate returns the checksum of all blocks: that of their checksums, in the order of the blocks.
func aggregate(sums map[int64]block.Sum) block.Sum {
	hash := sha256.New()
	for _, index := range slices.Sorted(maps.Keys(sums)) {
		sum := sums[index]
		hash.Write(sum[:])
	}
	return block.Sum(hash.Sum(nil))
}
