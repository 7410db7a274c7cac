//go:build linux

package ebs_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestWriteAndRead(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	want := map[int32][]byte{0: random(1), 7: zero(), 2047: random(2)}
	id := w.written(want)
	if s := w.snapshot(id); s.State != state.SnapshotCompleted || s.SizeGiB != 1 || s.VolumeID != "vol-ffffffff" {
		t.Errorf("EC2 shows %+v", s)
	}
	indexes, tokens := w.blocks(id)
	if !slices.Equal(indexes, []int32{0, 7, 2047}) {
		t.Fatalf("the blocks are %v", indexes)
	}
	for index, data := range want {
		if !bytes.Equal(w.get(id, index, tokens[index]), data) {
			t.Errorf("block %d differs", index)
		}
	}
}

func TestStartSnapshot(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	in := &awsebs.StartSnapshotInput{
		VolumeSize: aws.Int64(3), Description: aws.String("d"), ClientToken: aws.String("once"), Encrypted: aws.Bool(true),
		KmsKeyArn: aws.String(state.KeyARN(mine, "alias/own")), Timeout: aws.Int32(10),
		Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}},
	}
	first, err := w.mine().StartSnapshot(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if first.Status != types.StatusPending || *first.BlockSize != size || *first.VolumeSize != 3 || *first.OwnerId != me || *first.Description != "d" ||
		!first.StartTime.Equal(w.clock.Now()) || *first.KmsKeyArn != *in.KmsKeyArn || len(first.Tags) != 1 || *first.Tags[0].Value != "1" {
		t.Errorf("the response is %+v", first)
	}
	s := w.snapshot(*first.SnapshotId)
	if s.State != state.SnapshotPending || !s.Encrypted || s.KMSKeyID != *in.KmsKeyArn || s.Tags["a"] != "1" || s.Description != "d" {
		t.Errorf("EC2 shows %+v", s)
	}
	w.complete(s.ID, nil)
	again, err := w.mine().StartSnapshot(t.Context(), in)
	if err != nil || *again.SnapshotId != s.ID || again.Status != types.StatusPending {
		t.Errorf("repeated with the token: %+v, %v; want the first response", again, err)
	}
	in.VolumeSize = aws.Int64(4)
	_, err = w.mine().StartSnapshot(t.Context(), in)
	wantError(t, err, 409, "ConflictException", "")
}

func TestParent(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	base := map[int32][]byte{1: random(1), 2: random(2), 3: zero()}
	first := w.written(base)
	changed := map[int32][]byte{2: random(3), 4: random(4)}
	second := w.written(changed, parent(first), func(in *awsebs.StartSnapshotInput) { in.VolumeSize = aws.Int64(2) })
	indexes, tokens := w.blocks(second)
	if !slices.Equal(indexes, []int32{1, 2, 3, 4}) {
		t.Fatalf("the blocks are %v", indexes)
	}
	for index, want := range map[int32][]byte{1: base[1], 2: changed[2], 3: zero(), 4: changed[4]} {
		if !bytes.Equal(w.get(second, index, tokens[index]), want) {
			t.Errorf("block %d differs", index)
		}
	}
	if _, tokens := w.blocks(first); !bytes.Equal(w.get(first, 2, tokens[2]), base[2]) {
		t.Error("the parent has changed")
	}
	if s := w.snapshot(second); s.ParentID != first || s.SizeGiB != 2 {
		t.Errorf("the snapshot is %+v", s)
	}
}

// TestZerosTakeNoSpace: blocks of zeros, and zeros that replace data, are holes in the file.
func TestZerosTakeNoSpace(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	sparse := zero()
	sparse[size-1] = 1
	id := w.start()
	w.put(id, map[int32][]byte{0: random(1), 1: random(2)})
	w.put(id, map[int32][]byte{0: sparse, 1: zero(), 5: zero()})
	var stat syscall.Stat_t
	if err := syscall.Stat(filepath.Join(w.cfg.Dir, "snapshots", id+".raw"), &stat); err != nil || stat.Blocks*512 > 64<<10 {
		t.Errorf("the snapshot takes %d bytes (%v)", stat.Blocks*512, err)
	}
	w.complete(id, map[int32][]byte{0: sparse, 1: zero(), 5: zero()})
	indexes, tokens := w.blocks(id)
	if !slices.Equal(indexes, []int32{0, 1, 5}) || !bytes.Equal(w.get(id, 0, tokens[0]), sparse) || !bytes.Equal(w.get(id, 1, tokens[1]), zero()) {
		t.Errorf("the blocks are %v, or their content differs", indexes)
	}
	if s := w.snapshot(id); s.State != state.SnapshotCompleted {
		t.Errorf("overwritten blocks count once, but the snapshot is %+v", s)
	}
}

// TestWrongSeal: a wrong checksum or count is accepted, and the snapshot fails later.
func TestWrongSeal(t *testing.T) {
	w := newTestCloud(t, state.Timing{Direct: state.Direct{Complete: time.Minute}})
	blocks := map[int32][]byte{1: random(1), 2: random(2)}
	for name, seal := range map[string]func(*awsebs.CompleteSnapshotInput){
		"right": func(*awsebs.CompleteSnapshotInput) {},
		"no checksum": func(in *awsebs.CompleteSnapshotInput) {
			in.Checksum, in.ChecksumAlgorithm, in.ChecksumAggregationMethod = nil, "", ""
		},
		"checksum": func(in *awsebs.CompleteSnapshotInput) { in.Checksum = putInput("", 0, zero()).Checksum },
		"count":    func(in *awsebs.CompleteSnapshotInput) { in.ChangedBlocksCount = aws.Int32(1) },
	} {
		t.Run(name, func(t *testing.T) {
			id := w.start()
			w.put(id, blocks)
			in := completeInput(id, blocks)
			seal(in)
			for range 2 { // it may be repeated
				if out, err := w.mine().CompleteSnapshot(t.Context(), in); err != nil || out.Status != types.StatusPending {
					t.Fatalf("the response is %+v, %v", out, err)
				}
			}
			w.clock.Pass(30 * time.Second)
			if s := w.snapshot(id); s.State != state.SnapshotPending || s.Progress != 50 {
				t.Errorf("after half of the time it is %s, %d%%", s.State, s.Progress)
			}
			w.clock.Pass(31 * time.Second)
			want := state.SnapshotError
			if name == "right" || name == "no checksum" {
				want = state.SnapshotCompleted
			}
			s := w.snapshot(id)
			if s.State != want || (s.Reason == "") == (want == state.SnapshotError) {
				t.Errorf("it ends as %s (%s), not %s", s.State, s.Reason, want)
			}
			if out, err := w.mine().CompleteSnapshot(t.Context(), in); err != nil || string(out.Status) != string(want) {
				t.Errorf("repeated at the end, the response is %+v, %v", out, err)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start()
	in := putInput(id, 0, zero())
	in.Progress = aws.Int32(40)
	if _, err := w.mine().PutSnapshotBlock(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if s := w.snapshot(id); s.State != state.SnapshotPending || s.Progress != 40 {
		t.Errorf("it is %s, %d%%", s.State, s.Progress)
	}
}

func TestUploadTimeout(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start(func(in *awsebs.StartSnapshotInput) { in.Timeout = aws.Int32(10) })
	byDefault := w.start()
	w.clock.Pass(9 * time.Minute)
	w.put(id, map[int32][]byte{0: zero()})
	w.clock.Pass(9 * time.Minute)
	if s := w.snapshot(id); s.State != state.SnapshotPending {
		t.Fatalf("it is %s after a write", s.State)
	}
	w.clock.Pass(2 * time.Minute)
	if s := w.snapshot(id); s.State != state.SnapshotError || !strings.Contains(s.Reason, "10m") {
		t.Errorf("it is %s (%s)", s.State, s.Reason)
	}
	_, err := w.mine().PutSnapshotBlock(t.Context(), putInput(id, 0, zero()))
	wantError(t, err, 400, "ValidationException", "INVALID_SNAPSHOT_ID")
	_, err = w.mine().CompleteSnapshot(t.Context(), completeInput(id, nil))
	wantError(t, err, 400, "ValidationException", "INVALID_SNAPSHOT_ID")
	w.clock.Pass(39 * time.Minute)
	if s := w.snapshot(byDefault); s.State != state.SnapshotPending {
		t.Errorf("the other snapshot is %s after 59 minutes", s.State)
	}
	w.clock.Pass(time.Minute)
	if s := w.snapshot(byDefault); s.State != state.SnapshotError {
		t.Errorf("the other snapshot is %s after an hour", s.State)
	}
}

// TestDeleteWhilePending: EC2 deletes a pending snapshot and all of its files.
func TestDeleteWhilePending(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start()
	w.put(id, map[int32][]byte{0: random(1)})
	if err := w.DeleteSnapshot(mine, id, false); err != nil {
		t.Fatal(err)
	}
	_, err := w.mine().PutSnapshotBlock(t.Context(), putInput(id, 0, zero()))
	wantError(t, err, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
	if left, err := os.ReadDir(filepath.Join(w.cfg.Dir, "snapshots")); err != nil || len(left) != 0 {
		t.Errorf("%v remain (%v)", left, err)
	}
}

// TestRestart: a pending snapshot can be continued, and tokens stay valid, after a restart.
func TestRestart(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	blocks := map[int32][]byte{0: random(1), 9: random(9)}
	done := w.written(blocks)
	_, tokens := w.blocks(done)
	id := w.start()
	w.put(id, map[int32][]byte{0: blocks[0]})
	w.restart()
	w.put(id, map[int32][]byte{9: blocks[9]})
	w.complete(id, blocks)
	if s := w.snapshot(id); s.State != state.SnapshotCompleted {
		t.Errorf("the continued snapshot is %s: %s", s.State, s.Reason)
	}
	if !bytes.Equal(w.get(done, 9, tokens[9]), blocks[9]) {
		t.Error("block 9 differs")
	}
	if left, _ := filepath.Glob(filepath.Join(w.cfg.Dir, "snapshots", "*.sums")); len(left) > 0 {
		t.Errorf("%v remain", left)
	}
}

func TestParallelWrites(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start()
	blocks := map[int32][]byte{}
	for i := range int32(32) {
		blocks[i] = random(uint64(i))
	}
	var all sync.WaitGroup
	for index, data := range blocks {
		all.Go(func() {
			if _, err := w.mine().PutSnapshotBlock(context.Background(), putInput(id, index, data)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	w.complete(id, blocks)
	if s := w.snapshot(id); s.State != state.SnapshotCompleted {
		t.Errorf("it is %s: %s", s.State, s.Reason)
	}
}
