//go:build linux

package ebs_test

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ebs"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestRates: requests above a rate are throttled, and the rate of one snapshot or kind of request
// does not affect others. The rates are so low that no token is added during the test.
func TestRates(t *testing.T) {
	const never = 1e-6
	list := func(w *testCloud, id string) error {
		_, err := w.mine().ListSnapshotBlocks(context.Background(), &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
		return err
	}
	put := func(w *testCloud, id string) error {
		_, err := w.mine().PutSnapshotBlock(context.Background(), putInput(id, 0, zero()))
		return err
	}
	t.Run("a snapshot", func(t *testing.T) {
		w := newTestCloud(t, state.Timing{Direct: state.Direct{SnapshotRequests: never}})
		first, second := w.start(), w.start()
		w.put(first, map[int32][]byte{0: zero()})
		wantError(t, put(w, first), 400, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE")
		w.put(second, map[int32][]byte{0: zero()})
	})
	t.Run("an account", func(t *testing.T) {
		w := newTestCloud(t, state.Timing{Direct: state.Direct{AccountRequests: never}})
		first, second := w.start(), w.start()
		w.put(first, map[int32][]byte{0: zero()})
		wantError(t, put(w, second), 400, "RequestThrottledException", "ACCOUNT_THROTTLED")
	})
	t.Run("lists", func(t *testing.T) {
		w := newTestCloud(t, state.Timing{Direct: state.Direct{ListRequests: never}})
		id := w.written(nil)
		if err := list(w, id); err != nil {
			t.Fatal(err)
		}
		wantError(t, list(w, id), 400, "RequestThrottledException", "ACCOUNT_THROTTLED")
	})
	t.Run("starts", func(t *testing.T) {
		w := newTestCloud(t, state.Timing{Direct: state.Direct{StartRequests: never}})
		w.complete(w.start(), nil) // each kind counts by itself
		_, err := w.mine().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
		wantError(t, err, 400, "RequestThrottledException", "ACCOUNT_THROTTLED")
		if _, err := w.theirs().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}); err != nil {
			t.Errorf("another account: %v", err)
		}
	})
}

// TestLatency: a request takes at least its time, and the transfers of a snapshot follow each
// other.
func TestLatency(t *testing.T) {
	w := newTestCloud(t, state.Timing{Direct: state.Direct{Write: 30 * time.Millisecond}})
	id, begun := w.start(), time.Now()
	w.put(id, map[int32][]byte{0: zero(), 1: zero()})
	if took := time.Since(begun); took < 60*time.Millisecond {
		t.Errorf("two writes took %s", took)
	}
	w = newTestCloud(t, state.Timing{Direct: state.Direct{Throughput: 10 * state.BlockSize}})
	id, begun = w.start(), time.Now()
	w.put(id, map[int32][]byte{0: zero(), 1: zero()})
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("two transfers at ten per second took %s", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := w.mine().PutSnapshotBlock(ctx, putInput(id, 0, zero())); err == nil {
		t.Error("a client that does not wait has no error")
	}
}

// TestEndedTransfers: transfers that have ended are forgotten, also without a limit of requests.
func TestEndedTransfers(t *testing.T) {
	w := newTestCloud(t, state.Timing{Direct: state.Direct{Throughput: 1e15}})
	for range 3 {
		w.put(w.start(), map[int32][]byte{0: zero()})
	}
	if n := ebs.Transfers(w.handler); n != 1 {
		t.Errorf("%d transfers are remembered", n)
	}
}

// TestProfile: a scale multiplies durations and divides rates.
func TestProfile(t *testing.T) {
	if d := state.AWS(1).Direct; d.Write != 100*time.Millisecond || d.SnapshotRequests != 1000 || d.Throughput != 500e6 {
		t.Errorf("the profile is %+v", d)
	}
	if d := state.AWS(0.1).Direct; d.Write != 10*time.Millisecond || d.SnapshotRequests != 10_000 || d.Throughput != 5e9 {
		t.Errorf("a tenth of the time is %+v", d)
	}
	if d := state.AWS(0).Direct; d != (state.Direct{}) {
		t.Errorf("no time is %+v", d)
	}
}
