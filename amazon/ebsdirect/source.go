package ebsdirect

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// Source is a completed snapshot whose blocks are read. It implements block.Source: List and Fetch
// make single requests, and their caller repeats them.
type Source struct {
	client   *Client
	snapshot string
	opened   time.Time
	tokens   tokens
	// page is the number of blocks in a list at the most.
	page int32
	// listing is held while a token is looked up, so that the readers of many blocks do not
	// request the same list at the same time.
	listing sync.Mutex
}

var _ block.Source = (*Source)(nil)

// Source returns a snapshot as a source of blocks. It makes no request.
func (c *Client) Source(snapshot string) *Source {
	return &Source{client: c, snapshot: snapshot, opened: c.now(), page: pageSize}
}

// known reports whether EBS must know the snapshot by now.
func (s *Source) known() bool { return s.client.now().Sub(s.opened) >= retry.UnseenFor }

// The sizes of lists.
const (
	// pageSize is the number of blocks that a list has at the most.
	pageSize = 10_000
	// lookupSize is the size of a list for the token of one block. The blocks after it are
	// probably read next.
	lookupSize = 1000
	// probeSize is the size of the smallest list.
	probeSize = 100
)

// Probe returns an error if the blocks cannot be read. It wraps ErrUnreadable if the reason is that
// the snapshot belongs to another account.
func (s *Source) Probe(ctx context.Context) error {
	_, _, err := s.list(ctx, 0, probeSize, true)
	if err != nil && isForeign(err) {
		return fmt.Errorf("%w: %w", ErrUnreadable, s.cannotList(err))
	}
	if err != nil {
		return s.cannotList(err)
	}
	return nil
}

// List implements block.Source.
func (s *Source) List(ctx context.Context, from int64) (present []block.Range, next int64, err error) {
	indexes, next, err := s.list(retry.Once(ctx), from, s.page, s.known())
	if err != nil {
		return nil, 0, permanent(ctx, s.cannotList(err))
	}
	return ranges(indexes), next, nil
}

func (s *Source) cannotList(err error) error {
	return s.client.Cannot(err, "list the blocks of %s", s.snapshot)
}

// list returns the first blocks with an index of at least from, and the index at which the next part
// begins, or -1. It keeps their tokens. The parts of a list are requested by index, so no token of a
// page can expire.
func (s *Source) list(ctx context.Context, from int64, most int32, known bool) (indexes []int64, next int64, err error) {
	in := &ebs.ListSnapshotBlocksInput{
		SnapshotId: aws.String(s.snapshot), StartingBlockIndex: aws.Int32(int32(from)), MaxResults: aws.Int32(most),
	}
	for {
		out, err := s.request(ctx, in, known)
		if err != nil {
			return nil, 0, err
		}
		if indexes, err = s.keep(out, from); err != nil {
			return nil, 0, err
		}
		switch {
		case aws.ToString(out.NextToken) == "":
			return indexes, -1, nil
		case len(indexes) > 0:
			return indexes, indexes[len(indexes)-1] + 1, nil
		case aws.ToString(out.NextToken) == aws.ToString(in.NextToken):
			return nil, 0, fmt.Errorf("%w: the list repeats a page token", errMalformed)
		}
		in.NextToken = out.NextToken
	}
}

// request requests one page of a list.
func (s *Source) request(ctx context.Context, in *ebs.ListSnapshotBlocksInput, known bool) (out *ebs.ListSnapshotBlocksOutput, err error) {
	err = s.client.do(ctx, "ListSnapshotBlocks", known, func(ctx context.Context) error {
		if out, err = s.client.calls.ListSnapshotBlocks(ctx, in); err != nil {
			return err
		}
		if size := aws.ToInt32(out.BlockSize); size != block.Size {
			return fmt.Errorf("%w: the blocks have %d bytes, not %d", errMalformed, size, block.Size)
		}
		return nil
	})
	return out, err
}

// keep keeps the tokens of a page, and returns its indexes.
func (s *Source) keep(out *ebs.ListSnapshotBlocksOutput, from int64) ([]int64, error) {
	indexes := make([]int64, 0, len(out.Blocks))
	last := from - 1
	for _, b := range out.Blocks {
		index := int64(aws.ToInt32(b.BlockIndex))
		if b.BlockIndex == nil || aws.ToString(b.BlockToken) == "" || index <= last {
			return nil, fmt.Errorf("%w: block %d without a token, or not in ascending order", errMalformed, index)
		}
		s.tokens.put(index, *b.BlockToken)
		indexes = append(indexes, index)
		last = index
	}
	return indexes, nil
}

// ranges returns indexes in ascending order as ranges.
func ranges(indexes []int64) []block.Range {
	var all []block.Range
	for _, index := range indexes {
		if n := len(all); n > 0 && all[n-1].First+all[n-1].Count == index {
			all[n-1].Count++
			continue
		}
		all = append(all, block.Range{First: index, Count: 1})
	}
	return all
}

// Fetch implements block.Source.
func (s *Source) Fetch(ctx context.Context, index int64, p []byte) (block.Sum, error) {
	sum, err := s.fetch(retry.Once(ctx), index, p, trusting)
	if err != nil {
		return sum, permanent(ctx, s.cannotRead(index, err))
	}
	return sum, nil
}

// read reads a block, verifies it, and repeats failed requests.
func (s *Source) read(ctx context.Context, index int64, p []byte) (sum block.Sum, err error) {
	if sum, err = s.fetch(ctx, index, p, verifying); err != nil {
		return sum, s.cannotRead(index, err)
	}
	return sum, nil
}

func (s *Source) cannotRead(index int64, err error) error {
	return s.client.Cannot(err, "read block %d of %s", index, s.snapshot)
}

// verification returns an error if a block does not have its checksum.
type verification func(p []byte, sum block.Sum) error

// trusting is for callers that verify the block themselves.
func trusting([]byte, block.Sum) error { return nil }

func verifying(p []byte, sum block.Sum) error {
	if sha256.Sum256(p) != sum {
		return block.ErrChecksum
	}
	return nil
}

// fetch reads a block. A token that has expired is replaced once.
func (s *Source) fetch(ctx context.Context, index int64, p []byte, verify verification) (block.Sum, error) {
	token, err := s.token(ctx, index)
	if err != nil {
		return block.Sum{}, err
	}
	sum, err := s.get(ctx, index, token, p, verify)
	if !hasReason(err, types.ValidationExceptionReasonInvalidBlockToken) {
		return sum, err
	}
	s.tokens.drop(index, token)
	if token, err = s.token(ctx, index); err != nil {
		return block.Sum{}, err
	}
	return s.get(ctx, index, token, p, verify)
}

// errAbsent is the error for a block that the snapshot does not have.
var errAbsent = errors.New("the snapshot does not have this block")

// token returns the token of a block. If it is not kept, the block is listed again.
func (s *Source) token(ctx context.Context, index int64) (string, error) {
	if token, ok := s.tokens.get(index); ok {
		return token, nil
	}
	s.listing.Lock()
	defer s.listing.Unlock()
	if token, ok := s.tokens.get(index); ok {
		return token, nil
	}
	indexes, _, err := s.list(ctx, index, lookupSize, s.known())
	switch {
	case err != nil:
		return "", err
	case len(indexes) == 0 || indexes[0] != index:
		return "", errAbsent
	}
	token, _ := s.tokens.get(index)
	return token, nil
}

// get requests a block with a token.
func (s *Source) get(ctx context.Context, index int64, token string, p []byte, verify verification) (sum block.Sum, err error) {
	in := &ebs.GetSnapshotBlockInput{SnapshotId: aws.String(s.snapshot), BlockIndex: aws.Int32(int32(index)), BlockToken: aws.String(token)}
	err = s.client.do(ctx, "GetSnapshotBlock", s.known(), func(ctx context.Context) error {
		out, err := s.client.calls.GetSnapshotBlock(ctx, in)
		if err != nil {
			return err
		}
		defer out.BlockData.Close()
		if size := aws.ToInt32(out.DataLength); size != block.Size {
			return fmt.Errorf("%w: the block has %d bytes, not %d", errMalformed, size, block.Size)
		}
		if sum, err = decodeSum(out.Checksum, out.ChecksumAlgorithm); err != nil {
			return err
		}
		if err := receive(out.BlockData, p); err != nil {
			return err
		}
		return verify(p[:block.Size], sum)
	})
	return sum, err
}

// receive reads a block. A connection that ends early is an io.ErrUnexpectedEOF.
func receive(body io.Reader, p []byte) error {
	_, err := io.ReadFull(body, p[:block.Size])
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// decodeSum decodes the checksum in a response.
func decodeSum(text *string, algorithm types.ChecksumAlgorithm) (sum block.Sum, err error) {
	raw, err := base64.StdEncoding.DecodeString(aws.ToString(text))
	if err != nil || len(raw) != len(sum) || algorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 {
		return sum, fmt.Errorf("%w: %s %q is not a checksum in base64", errMalformed, algorithm, aws.ToString(text))
	}
	return block.Sum(raw), nil
}

func encodeSum(sum block.Sum) *string { return aws.String(base64.StdEncoding.EncodeToString(sum[:])) }

// permanent marks an error as one that a retry cannot change, unless it may pass or the context has
// ended.
func permanent(ctx context.Context, err error) error {
	var passing *retry.CallError
	if errors.As(err, &passing) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w (%w)", err, block.ErrPermanent)
}
