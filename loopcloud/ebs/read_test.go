//go:build linux

package ebs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// volumeOf creates a volume of a snapshot and returns its ID and its file.
func (w *testCloud) volumeOf(snapshot string, sizeGiB int64) (id, file string) {
	w.t.Helper()
	v, err := w.CreateVolume(mine, state.VolumeRequest{Zone: home + "a", SnapshotID: snapshot, SizeGiB: sizeGiB})
	if err != nil {
		w.t.Fatal(err)
	}
	return v.ID, filepath.Join(w.cfg.Dir, "volumes", v.ID+".raw")
}

// snapshotOf creates a snapshot of a volume with EC2.
func (w *testCloud) snapshotOf(volume string) string {
	w.t.Helper()
	s, err := w.CreateSnapshot(mine, state.SnapshotRequest{VolumeID: volume})
	if err != nil {
		w.t.Fatal(err)
	}
	return s.ID
}

// writeAt writes into a file.
func writeAt(t *testing.T, file string, data []byte, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

// readAt reads a block of a file.
func readAt(t testing.TB, file string, index int64) []byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, size)
	if _, err := f.ReadAt(data, index*int64(size)); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSnapshotOfVolume: a snapshot that EC2 made of a volume has the blocks that were written, and
// no others.
func TestSnapshotOfVolume(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	volume, file := w.volumeOf(w.written(nil), 2)
	writeAt(t, file, []byte("a byte or two"), 5*int64(size)+123)
	writeAt(t, file, random(1), 4095*int64(size))
	id := w.snapshotOf(volume)
	indexes, tokens := w.blocks(id)
	if !slices.Equal(indexes, []int32{5, 4095}) {
		t.Fatalf("the blocks are %v", indexes)
	}
	for _, index := range indexes {
		if !bytes.Equal(w.get(id, index, tokens[index]), readAt(t, file, int64(index))) {
			t.Errorf("block %d differs", index)
		}
	}
}

// TestVolumeOfSnapshot: a volume of a written snapshot has its blocks, also one that is larger.
func TestVolumeOfSnapshot(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	blocks := map[int32][]byte{0: random(1), 2047: random(2)}
	_, file := w.volumeOf(w.written(blocks), 3)
	for index, want := range map[int64][]byte{0: blocks[0], 1: zero(), 2047: blocks[2047], 2048: zero()} {
		if !bytes.Equal(readAt(t, file, index), want) {
			t.Errorf("block %d differs", index)
		}
	}
}

// TestEncryptedNoise: in a volume of an encrypted snapshot, a block that was not written is noise,
// a written block of zeros is not, and neither is the part after the snapshot's end. It stays so for
// a copy, a child and an export.
func TestEncryptedNoise(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.written(map[int32][]byte{0: random(1), 3: zero()}, encrypted)
	copied, err := w.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: id})
	if err != nil {
		t.Fatal(err)
	}
	child := w.written(map[int32][]byte{1: zero()}, parent(id))
	exported := filepath.Join(testdir.New(t), "disk")
	if err := w.ExportSnapshot(mine, id, exported); err != nil {
		t.Fatal(err)
	}
	_, direct := w.volumeOf(id, 2)
	_, ofCopy := w.volumeOf(copied.ID, 2)
	_, ofChild := w.volumeOf(child, 2)
	for file, noise := range map[string]map[int64]bool{
		direct: {1: true, 2: true, 3: false, 2047: true, 2048: false}, ofCopy: {1: true, 3: false, 2048: false},
		ofChild: {1: false, 2: true, 3: false}, exported: {1: true, 3: false},
	} {
		for index, want := range noise {
			if got := !bytes.Equal(readAt(t, file, index), zero()); got != want {
				t.Errorf("block %d of %s: noise is %t, want %t", index, filepath.Base(file), got, want)
			}
		}
	}
	if indexes, _ := w.blocks(id); !slices.Equal(indexes, []int32{0, 3}) {
		t.Errorf("the blocks of the snapshot are %v", indexes)
	}
}

// listed returns the page of a list that begins at an index.
func (w *testCloud) listed(in *awsebs.ListSnapshotBlocksInput) (indexes []int32, next *string) {
	w.t.Helper()
	out, err := w.mine().ListSnapshotBlocks(context.Background(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	if *out.BlockSize != size || *out.VolumeSize != 1 || !out.ExpiryTime.Equal(w.clock.Now().Add(7*24*time.Hour)) {
		w.t.Errorf("the response is %+v", out)
	}
	for _, b := range out.Blocks {
		indexes = append(indexes, *b.BlockIndex)
	}
	return indexes, out.NextToken
}

func TestPages(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	blocks := map[int32][]byte{}
	for i := range int32(201) {
		blocks[3*i] = zero()
	}
	id := aws.String(w.written(blocks))
	first, next := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: id, MaxResults: aws.Int32(100)})
	if len(first) != 100 || first[99] != 297 || next == nil {
		t.Fatalf("the first page is %v, its token %v", first, next)
	}
	second, next := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: id, MaxResults: aws.Int32(100), NextToken: next, StartingBlockIndex: aws.Int32(0)})
	third, last := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: id, MaxResults: aws.Int32(100), NextToken: next})
	if len(second) != 100 || second[0] != 300 || !slices.Equal(third, []int32{600}) || last != nil {
		t.Errorf("the further pages are %v and %v, the last token %v", second, third, last)
	}
	if few, _ := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: id, MaxResults: aws.Int32(5)}); len(few) != 100 {
		t.Errorf("a page has at least 100 blocks, not %d", len(few))
	}
	if rest, _ := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: id, StartingBlockIndex: aws.Int32(598)}); !slices.Equal(rest, []int32{600}) {
		t.Errorf("from 598 on the blocks are %v", rest)
	}
	if none, _ := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: id, StartingBlockIndex: aws.Int32(5000)}); len(none) != 0 {
		t.Errorf("from 5000 on the blocks are %v", none)
	}
}

// changed returns the changed blocks of two snapshots, as index and the snapshots that have them,
// and the number of pages.
func (w *testCloud) changed(first, second string, limit int32) (list []string, pages int) {
	w.t.Helper()
	p := awsebs.NewListChangedBlocksPaginator(w.mine(), &awsebs.ListChangedBlocksInput{
		FirstSnapshotId: aws.String(first), SecondSnapshotId: aws.String(second), MaxResults: aws.Int32(limit),
	})
	for ; p.HasMorePages(); pages++ {
		out, err := p.NextPage(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range out.ChangedBlocks {
			list = append(list, fmt.Sprintf("%d %t %t", *b.BlockIndex, b.FirstBlockToken != nil, b.SecondBlockToken != nil))
			for id, token := range map[string]*string{first: b.FirstBlockToken, second: b.SecondBlockToken} {
				if token != nil {
					w.get(id, *b.BlockIndex, *token)
				}
			}
		}
	}
	return list, pages
}

func TestChangedBlocks(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	base := map[int32][]byte{1: random(1), 2: random(2)}
	for i := range int32(150) {
		base[1000+i] = zero()
	}
	first := w.written(base)
	second := w.written(map[int32][]byte{1: random(3), 2: base[2], 4: zero(), 2000: random(4)}, parent(first))
	got, pages := w.changed(first, second, 100)
	if !slices.Equal(got, []string{"1 true true", "4 false true", "2000 false true"}) || pages != 2 {
		t.Errorf("the changed blocks are %v on %d pages", got, pages)
	}
	if got, _ := w.changed(second, first, 10_000); !slices.Equal(got, []string{"1 true true", "4 true false", "2000 true false"}) {
		t.Errorf("in the other direction, the changed blocks are %v", got)
	}
}

// TestLineage: snapshots of a volume, and of volumes made of its snapshots, can be compared.
func TestLineage(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	first := w.written(map[int32][]byte{0: random(1)})
	volume, file := w.volumeOf(first, 1)
	writeAt(t, file, random(2), 0)
	second := w.snapshotOf(volume)
	third := w.written(map[int32][]byte{7: random(7)}, parent(second))
	if got, _ := w.changed(first, third, 100); !slices.Equal(got, []string{"0 true true", "7 false true"}) {
		t.Errorf("the changed blocks are %v", got)
	}
	copied, err := w.CopySnapshot(mine, state.SnapshotCopyRequest{SourceID: third})
	if err != nil {
		t.Fatal(err)
	}
	for _, stranger := range []string{copied.ID, w.written(nil)} {
		_, err := w.mine().ListChangedBlocks(t.Context(), &awsebs.ListChangedBlocksInput{FirstSnapshotId: aws.String(first), SecondSnapshotId: aws.String(stranger)})
		wantError(t, err, 400, "ValidationException", "UNRELATED_SNAPSHOTS")
	}
}

// TestTokensExpire: a block token is valid for seven days, a page token for an hour, and each for
// its own list only.
func TestTokensExpire(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	blocks := map[int32][]byte{}
	for i := range int32(101) {
		blocks[i] = zero()
	}
	id, twin := w.written(blocks), w.written(blocks)
	_, tokens := w.blocks(id)
	_, page := w.listed(&awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id), MaxResults: aws.Int32(100)})
	get := func(id string, index int32, token string) error {
		_, err := w.mine().GetSnapshotBlock(t.Context(), getInput(id, index, token))
		return err
	}
	list := func(id string) error {
		_, err := w.mine().ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id), NextToken: page})
		return err
	}
	for _, err := range []error{get(id, 1, tokens[2]), get(twin, 2, tokens[2]), get(id, 2, "AAAA"), get(id, 2, *page)} {
		wantError(t, err, 400, "ValidationException", "INVALID_BLOCK_TOKEN")
	}
	wantError(t, list(twin), 400, "ValidationException", "INVALID_PAGE_TOKEN")
	w.clock.Pass(59 * time.Minute)
	if err := list(id); err != nil {
		t.Errorf("after 59 minutes: %v", err)
	}
	w.clock.Pass(time.Minute)
	wantError(t, list(id), 400, "ValidationException", "INVALID_PAGE_TOKEN")
	w.clock.Pass(7*24*time.Hour - 61*time.Minute)
	if err := get(id, 2, tokens[2]); err != nil {
		t.Errorf("before seven days have passed: %v", err)
	}
	w.clock.Pass(time.Minute)
	wantError(t, get(id, 2, tokens[2]), 400, "ValidationException", "INVALID_BLOCK_TOKEN")
}

// TestWhoMayRead: the owner, and accounts that a snapshot is shared with; not everybody, even if
// it is public.
func TestWhoMayRead(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.written(map[int32][]byte{0: zero()})
	read := func() error {
		out, err := w.theirs().ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
		if err != nil {
			return err
		}
		_, err = w.theirs().GetSnapshotBlock(t.Context(), getInput(id, 0, *out.Blocks[0].BlockToken))
		return err
	}
	share := func(ch state.PermissionChange) {
		t.Helper()
		if _, err := w.ShareSnapshot(mine, id, ch, false); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, read(), 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
	share(state.PermissionChange{Add: state.Permissions{Public: true}})
	wantError(t, read(), 403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT")
	share(state.PermissionChange{Add: state.Permissions{Accounts: []string{other}}})
	if err := read(); err != nil {
		t.Errorf("shared with the account: %v", err)
	}
	_, err := w.theirs().PutSnapshotBlock(t.Context(), putInput(id, 0, zero()))
	wantError(t, err, 403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT")
	_, err = w.theirs().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: aws.String(id)})
	wantError(t, err, 403, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT")
	if _, tokens := w.blocks(id); !bytes.Equal(w.get(id, 0, tokens[0]), zero()) {
		t.Error("the owner of a public snapshot cannot read it")
	}
}
