package state

import (
	"bytes"
	"cmp"
	"slices"
)

// lineage returns the ID of the resource that the data of a snapshot began with.
func (r *snapshotRecord) lineage() string {
	if r.VolumeID == noVolume {
		return cmp.Or(r.Lineage, r.ID)
	}
	return cmp.Or(r.Lineage, r.VolumeID)
}

// readableBlocks returns a completed snapshot whose blocks the caller may read: its own, or one
// that was shared with its account. That a snapshot is public is not enough
// (https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-faq.html).
func (o *op) readableBlocks(caller Caller, id string) (*snapshotRecord, error) {
	r, err := o.anySnapshot(caller, id)
	if err != nil {
		return nil, err
	}
	if o.snapshotStale.hidden(id, caller, o.now) {
		return nil, refuse(NotFound, "snapshot", id, "it does not exist")
	}
	if r.Account != caller.Account && !slices.Contains(r.CreateVolume.Accounts, caller.Account) {
		return nil, refuse(NotAllowed, "snapshot", id, "it is public; only snapshots of the account and those shared with it can be read")
	}
	if s := r.view(o.now); s.State != SnapshotCompleted {
		return nil, refuse(NotFound, "snapshot", id, "it is %s", s.State)
	}
	return r, nil
}

// BlockPage is a part of the list of a snapshot's blocks.
type BlockPage struct {
	SizeGiB int64
	Blocks  []int64
	// Next is the block at which the next page begins, 0 if there is none.
	Next int64
}

// SnapshotBlocks returns the first blocks from an index on that a snapshot has, at most limit.
func (c *Cloud) SnapshotBlocks(caller Caller, id string, from int64, limit int) (BlockPage, error) {
	o := c.begin(reading(id))
	defer o.end()
	r, err := o.readableBlocks(caller, id)
	if err != nil {
		return BlockPage{}, err
	}
	found, err := o.presentBlocks(r, from, limit+1)
	if err != nil {
		return BlockPage{}, err
	}
	found, next := cutPage(found, limit)
	return BlockPage{SizeGiB: r.SizeGiB, Blocks: found, Next: next}, nil
}

// presentBlocks returns the first blocks of a snapshot from an index on.
func (o *op) presentBlocks(r *snapshotRecord, from int64, limit int) (found []int64, err error) {
	blocks, err := o.blockDisks()
	if err != nil {
		return nil, err
	}
	if from >= r.blocks() {
		return nil, nil
	}
	err = o.bytes(func() error {
		found, err = blocks.PresentBlocks(r.ID, from, limit)
		return err
	})
	return found, err
}

// cutPage returns the first elements of a list, and the one that follows them, 0 if there is none.
func cutPage(list []int64, limit int) (page []int64, next int64) {
	if len(list) <= limit {
		return list, 0
	}
	return list[:limit], list[limit]
}

// ChangedBlock is a block that differs between two snapshots. First and Second report which of
// them has it.
type ChangedBlock struct {
	Index         int64
	First, Second bool
}

// ChangedPage is a part of the list of the blocks in which two snapshots differ.
type ChangedPage struct {
	SizeGiB int64 // of the second snapshot
	Blocks  []ChangedBlock
	// Next is the block at which the next page begins, 0 if there is none.
	Next int64
}

// ChangedBlocks compares at most limit blocks of two snapshots, from an index on. A page without
// changed blocks may therefore have a Next.
func (c *Cloud) ChangedBlocks(caller Caller, first, second string, from int64, limit int) (ChangedPage, error) {
	o := c.begin(reading(first), reading(second))
	defer o.end()
	a, err := o.readableBlocks(caller, first)
	if err != nil {
		return ChangedPage{}, err
	}
	b, err := o.readableBlocks(caller, second)
	if err != nil {
		return ChangedPage{}, err
	}
	if a.lineage() != b.lineage() {
		return ChangedPage{}, refuse(Unrelated, "snapshot", second, "it does not have the same origin as %s", first)
	}
	inFirst, err := o.presentBlocks(a, from, limit+1)
	if err != nil {
		return ChangedPage{}, err
	}
	inSecond, err := o.presentBlocks(b, from, limit+1)
	if err != nil {
		return ChangedPage{}, err
	}
	all, next := cutPage(union(inFirst, inSecond), limit)
	page := ChangedPage{SizeGiB: b.SizeGiB, Next: next}
	for _, index := range all {
		_, hasFirst := slices.BinarySearch(inFirst, index)
		_, hasSecond := slices.BinarySearch(inSecond, index)
		page.Blocks = append(page.Blocks, ChangedBlock{index, hasFirst, hasSecond})
	}
	page.Blocks, err = o.withoutEqual(page.Blocks, first, second)
	return page, err
}

// union returns the elements of two sorted lists, sorted.
func union(a, b []int64) []int64 {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// withoutEqual returns the blocks whose content differs between two snapshots.
func (o *op) withoutEqual(list []ChangedBlock, first, second string) ([]ChangedBlock, error) {
	blocks, err := o.blockDisks()
	if err != nil {
		return nil, err
	}
	a, b := make([]byte, BlockSize), make([]byte, BlockSize)
	var failed error
	_ = o.bytes(func() error {
		list = slices.DeleteFunc(list, func(c ChangedBlock) bool {
			if failed != nil || !c.First || !c.Second {
				return false
			}
			failed = cmp.Or(blocks.ReadBlock(first, c.Index, a), blocks.ReadBlock(second, c.Index, b))
			return failed == nil && bytes.Equal(a, b)
		})
		return nil
	})
	return list, failed
}

// ReadBlock returns the data of a block.
func (c *Cloud) ReadBlock(caller Caller, id string, index int64) ([]byte, error) {
	o := c.begin(reading(id))
	defer o.end()
	blocks, err := c.blockDisks()
	if err != nil {
		return nil, err
	}
	r, err := o.readableBlocks(caller, id)
	if err != nil {
		return nil, err
	}
	if index < 0 || index >= r.blocks() {
		return nil, refuse(InvalidValue, "block", decimal(index), "%s has the blocks 0 to %d", id, r.blocks()-1)
	}
	data := make([]byte, BlockSize)
	return data, o.bytes(func() error { return blocks.ReadBlock(id, index, data) })
}
