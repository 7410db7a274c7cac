package lazydisk_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
)

// TestReadFetches: blocks are fetched when they are read, and absent ones are zeros.
func TestReadFetches(t *testing.T) {
	source := sourcetest.Pattern(block.Range{First: 1, Count: 2}, block.Range{First: 5, Count: 1})
	d := open(t, source, lazydisk.Options{Size: 8 * block.Size, Key: "test", Cache: cached(t)})
	f := device(t, d)
	p, want := aligned(t, block.Size), make([]byte, block.Size)
	for index := range int64(8) {
		if _, err := f.ReadAt(p, index*block.Size); err != nil {
			t.Fatal(err)
		}
		clear(want)
		if index == 1 || index == 2 || index == 5 {
			sourcetest.Content(index, want)
		}
		if !bytes.Equal(p, want) {
			t.Errorf("block %d has the wrong content", index)
		}
	}
	if all, most := source.Requests(); all != 3 || most != 1 {
		t.Errorf("%d requests, %d for a block", all, most)
	}
	stats, err := d.Stats(within(t))
	if err != nil || stats.Fetched != 3 || stats.CacheError != "" || stats.Uncached != 0 {
		t.Errorf("the figures are %+v, %v", stats, err)
	}
}

// discard is a function for Changes.
func discard(context.Context, lazydisk.Change) error { return nil }
