package ebs

import (
	"crypto/sha256"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// The range of maxResults.
const (
	minResults = 100
	maxResults = 10_000
)

// list holds the parameters that both lists have.
type list struct {
	from  int64
	limit int
}

// decodeList returns the parameters of a list of the blocks of these snapshots. Fewer than 100
// results cannot be requested: the page has up to 100
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-faq.html).
func (c *call) decodeList(snapshots ...string) (list, error) {
	if c.in.QueryErr != nil {
		return list{}, invalid("INVALID_PARAMETER_VALUE", "The query is malformed: %v", c.in.QueryErr)
	}
	q := c.in.Query
	limit, err := number("maxResults", q.Get("maxResults"), 1, maxResults, maxResults)
	if err != nil {
		return list{}, err
	}
	from, err := number("startingBlockIndex", q.Get("startingBlockIndex"), 0, math.MaxInt32, 0)
	if err != nil {
		return list{}, err
	}
	if token := q.Get("pageToken"); token != "" {
		var ok bool
		if from, ok = c.tokens.readPage(token, c.caller, snapshots...); !ok {
			return list{}, invalid("INVALID_PAGE_TOKEN", "The page token is not of this list or has expired")
		}
	}
	return list{from: from, limit: max(int(limit), minResults)}, nil
}

// listOutput is the part of a response that both lists have.
type listOutput struct {
	ExpiryTime float64
	VolumeSize int64
	BlockSize  int64
	NextToken  string `json:",omitempty"`
}

// listOutputOf returns the common part of a response.
func (c *call) listOutputOf(sizeGiB, next int64, expiry time.Time, snapshots ...string) listOutput {
	return listOutput{
		ExpiryTime: seconds(expiry), VolumeSize: sizeGiB, BlockSize: state.BlockSize,
		NextToken: c.tokens.page(c.caller, next, snapshots...),
	}
}

// seconds returns a time as it is on the wire: in seconds since 1970, with milliseconds.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// blockItem is a block in a list.
type blockItem struct {
	BlockIndex int64
	BlockToken string
}

// blocksOutput is the response of ListSnapshotBlocks.
type blocksOutput struct {
	listOutput
	Blocks []blockItem
}

func (c *call) listSnapshotBlocks() (response, error) {
	in, err := c.decodeList(c.snapshot)
	if err != nil {
		return response{}, err
	}
	page, err := c.st.SnapshotBlocks(c.caller, c.snapshot, in.from, in.limit)
	if err != nil {
		return response{}, err
	}
	expiry := c.st.Now().Add(blockTokenLife)
	out := blocksOutput{listOutput: c.listOutputOf(page.SizeGiB, page.Next, expiry, c.snapshot), Blocks: []blockItem{}}
	for _, index := range page.Blocks {
		out.Blocks = append(out.Blocks, blockItem{index, c.tokens.block(c.caller, c.snapshot, index, expiry)})
	}
	return response{status: http.StatusOK, body: out}, nil
}

// changedItem is a changed block in a list.
type changedItem struct {
	BlockIndex       int64
	FirstBlockToken  string `json:",omitempty"`
	SecondBlockToken string `json:",omitempty"`
}

// changedOutput is the response of ListChangedBlocks.
type changedOutput struct {
	listOutput
	ChangedBlocks []changedItem
}

func (c *call) listChangedBlocks() (response, error) {
	first, second := c.in.Query.Get("firstSnapshotId"), c.snapshot
	if first == "" {
		return response{}, invalid("INVALID_PARAMETER_VALUE", "firstSnapshotId is required")
	}
	in, err := c.decodeList(first, second)
	if err != nil {
		return response{}, err
	}
	page, err := c.st.ChangedBlocks(c.caller, first, second, in.from, in.limit)
	if err != nil {
		return response{}, err
	}
	expiry := c.st.Now().Add(blockTokenLife)
	out := changedOutput{listOutput: c.listOutputOf(page.SizeGiB, page.Next, expiry, first, second), ChangedBlocks: []changedItem{}}
	for _, b := range page.Blocks {
		item := changedItem{BlockIndex: b.Index}
		if b.First {
			item.FirstBlockToken = c.tokens.block(c.caller, first, b.Index, expiry)
		}
		if b.Second {
			item.SecondBlockToken = c.tokens.block(c.caller, second, b.Index, expiry)
		}
		out.ChangedBlocks = append(out.ChangedBlocks, item)
	}
	return response{status: http.StatusOK, body: out}, nil
}

func (c *call) getSnapshotBlock() (response, error) {
	index, err := blockIndex(c.index)
	if err != nil {
		return response{}, err
	}
	data, err := c.st.ReadBlock(c.caller, c.snapshot, index)
	if err != nil {
		return response{}, err
	}
	if !c.tokens.allows(c.in.Query.Get("blockToken"), c.caller, c.snapshot, index) {
		return response{}, invalid("INVALID_BLOCK_TOKEN", "The block token is not of block %d or has expired", index)
	}
	return response{status: http.StatusOK, block: data, header: map[string]string{
		dataLength: strconv.Itoa(len(data)), checksum: encodeChecksum(sha256.Sum256(data)), checksumAlgorithm: sha256Algorithm,
	}}, nil
}
