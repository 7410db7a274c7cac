package ebsdirect_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// on returns a specification of a snapshot on a parent.
func on(parent string) ebsdirect.Spec {
	return ebsdirect.Spec{Token: "token", SizeGiB: 1, Parent: parent, Description: "built", Tags: map[string]string{"b": "2", "a": "1"}}
}

// with returns a changed block whose parent has the block, or has an equal one.
func with(b ebsdirect.Block, present, equal bool) ebsdirect.Block {
	b.Present, b.Equal = present, equal
	return b
}

// TestUploads writes the same changes in different cases, and reads the snapshots. A block of zeros
// that is not needed is not written, nor is a block equal to the parent's.
func TestUploads(t *testing.T) {
	w := newTestCloud(t)
	base := w.written(map[int64][]byte{0: filled('a'), 1: filled('b'), 2: filled('c'), 3: filled('d'), 9: filled(0)})
	changes := []ebsdirect.Block{
		with(changed(1, filled('B')), true, false),
		with(changed(2, filled(0)), true, false),
		with(changed(3, filled('d')), true, true),
		changed(4, filled(0)),
		changed(5, filled('N')),
	}
	const key = "arn:aws:kms:eu-west-2:111111111111:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for name, test := range map[string]struct {
		spec   ebsdirect.Spec
		change func(*ebsdirect.Target)
		puts   int
		want   map[int64]byte
	}{
		"on a parent":                  {on(base), based(nil), 3, map[int64]byte{0: 'a', 1: 'B', 2: 0, 3: 'd', 5: 'N', 9: 0}},
		"on a parent, maybe encrypted": {ebsdirect.Spec{SizeGiB: 2, Parent: base}, opaque, 4, map[int64]byte{0: 'a', 1: 'B', 2: 0, 3: 'd', 4: 0, 5: 'N', 9: 0}},
		"with a base":                  {ebsdirect.Spec{SizeGiB: 1}, based(w.mine().Source(base)), 4, map[int64]byte{0: 'a', 1: 'B', 3: 'd', 5: 'N'}},
		"with a base, encrypted": {
			ebsdirect.Spec{SizeGiB: 1, Encrypted: true, KeyARN: key, Timeout: 4320 * time.Minute}, based(w.mine().Source(base)),
			7, map[int64]byte{0: 'a', 1: 'B', 2: 0, 3: 'd', 4: 0, 5: 'N', 9: 0},
		},
		"with neither":            {ebsdirect.Spec{SizeGiB: 1}, based(nil), 3, map[int64]byte{1: 'B', 3: 'd', 5: 'N'}},
		"with neither, encrypted": {ebsdirect.Spec{SizeGiB: 1, Encrypted: true}, based(nil), 5, map[int64]byte{1: 'B', 2: 0, 3: 'd', 4: 0, 5: 'N'}},
	} {
		t.Run(name, func(t *testing.T) {
			w.count("")
			test.spec.Token = strings.ReplaceAll(name, " ", "-")
			u := w.start(w.mine(), test.spec, test.change)
			if err := w.write(u, changes...); err != nil {
				t.Fatal(err)
			}
			if n := w.count("PutSnapshotBlock"); n != test.puts {
				t.Errorf("%d blocks were written, not %d", n, test.puts)
			}
			s := w.snapshot(u.ID)
			if s.State != state.SnapshotCompleted || s.SizeGiB != test.spec.SizeGiB || s.Encrypted != test.spec.Encrypted || test.spec.KeyARN != "" && s.KMSKeyID != test.spec.KeyARN {
				t.Errorf("the snapshot is %+v", s)
			}
			if got := w.content(u.ID); !maps.Equal(got, test.want) {
				t.Errorf("the content is %v, not %v", got, test.want)
			}
		})
	}
}

// TestUploadOfNothing: a snapshot without changes is that of its parent.
func TestUploadOfNothing(t *testing.T) {
	w := newTestCloud(t)
	base := w.written(map[int64][]byte{0: filled('a')})
	u := w.start(w.mine(), on(base))
	if err := w.write(u); err != nil {
		t.Fatal(err)
	}
	s := w.snapshot(u.ID)
	if got := w.content(u.ID); got[0] != 'a' || len(got) != 1 || s.State != state.SnapshotCompleted || s.Description != "built" || s.ParentID != base || !maps.Equal(s.Tags, on("").Tags) {
		t.Errorf("the snapshot is %+v with %v", s, got)
	}
}

// TestUploadWithManyGoroutines writes blocks in no particular order. The checksum of all blocks is
// right: otherwise the snapshot would fail.
func TestUploadWithManyGoroutines(t *testing.T) {
	w := newTestCloud(t)
	c := w.mine()
	u := w.start(c, on(""))
	want := map[int64]byte{}
	var writers sync.WaitGroup
	for i := range int64(2 * c.Parallel()) {
		data := byte(1 + i)
		want[7*i] = data
		writers.Go(func() {
			if err := u.Write(t.Context(), changed(7*i, filled(data))); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	err := u.Complete(t.Context())
	if n, _ := u.Blocks(); err != nil || n != int64(len(want)) {
		t.Fatalf("%d blocks were written: %v", n, err)
	}
	if s, got := w.snapshot(u.ID), w.content(u.ID); s.State != state.SnapshotCompleted || !maps.Equal(got, want) {
		t.Errorf("%s has %v", s.State, got)
	}
}

// uploadFaults are transient faults. ACTION stands for an action.
var uploadFaults = []string{
	`{"action":"ACTION","times":3,"error":"throttled"}`,
	`{"action":"ACTION","times":3,"error":"throttled-call"}`,
	`{"action":"ACTION","times":3,"error":"internal"}`,
	`{"action":"ACTION","times":3,"error":"unavailable"}`,
	`{"action":"ACTION","times":2,"drop":"before"}`,
	`{"action":"ACTION","times":2,"drop":"after"}`,
	`{"action":"ACTION","times":1,"hang":"before"}`,
	`{"action":"ACTION","times":1,"hang":"after"}`,
	`{"action":"ACTION","times":2,"body":"cut"}`,
	`{"action":"ACTION","times":2,"body":"garbage"}`,
	`{"action":"ACTION","times":1,"status":400,"code":"ValidationException/WRITE_REQUEST_TIMEOUT"}`,
	`{"action":"ACTION","times":1,"status":400,"code":"ConcurrentLimitExceededException"}`,
}

// TestUploadFaults: an upload survives transient faults of each request, and creates one snapshot.
func TestUploadFaults(t *testing.T) {
	actions := []string{"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "ListSnapshotBlocks", "GetSnapshotBlock"}
	w := newTestCloud(t)
	base := w.written(map[int64][]byte{0: filled('a'), 1: filled('b')})
	rules := []string{
		`{"action":"StartSnapshot","times":1,"stale":{"changes":3}}`,
		`{"action":"PutSnapshotBlock","times":1,"status":403,"code":"InvalidSignatureException","message":"the checksum"}`,
		`{"action":"PutSnapshotBlock","times":2,"status":400,"code":"ValidationException/CONFLICTING_BLOCK_UPDATE"}`,
		`{"action":"GetSnapshotBlock","times":2,"body":"corrupt"}`,
	}
	for _, action := range actions {
		for _, rule := range uploadFaults {
			rules = append(rules, strings.Replace(rule, "ACTION", action, 1))
		}
	}
	for i, rule := range rules {
		t.Run(rule, func(t *testing.T) {
			w.fault(rule)
			before := len(w.Cloud().Snapshots(mine))
			c := w.client("AKIAMINE", func(o *ebsdirect.Options) { o.Attempt = 300 * time.Millisecond })
			u := w.start(c, ebsdirect.Spec{Token: fmt.Sprint("token-", i), SizeGiB: 1}, based(c.Source(base)))
			err := w.write(u, with(changed(1, filled('B')), true, false))
			w.fault()
			if err != nil {
				t.Fatal(err)
			}
			if got := w.content(u.ID); !maps.Equal(got, map[int64]byte{0: 'a', 1: 'B'}) || w.snapshot(u.ID).State != state.SnapshotCompleted {
				t.Errorf("the content is %v", got)
			}
			if n := len(w.Cloud().Snapshots(mine)) - before; n != 1 {
				t.Errorf("%d snapshots were created", n)
			}
		})
	}
}

// TestNeverCompletesWithBlocksMissing: if a block could not be written, or is being written, the
// snapshot is not completed.
func TestNeverCompletesWithBlocksMissing(t *testing.T) {
	w := newTestCloud(t)
	base := w.written(map[int64][]byte{0: filled('a'), 1: filled('b')})
	for _, rule := range []string{
		`{"action":"PutSnapshotBlock","times":1,"error":"denied"}`,
		`{"action":"PutSnapshotBlock","times":1,"status":400,"code":"ValidationException/INVALID_BLOCK"}`,
		`{"action":"GetSnapshotBlock","times":1,"error":"denied"}`,
		`{"action":"ListSnapshotBlocks","times":1,"error":"denied"}`,
		`{"action":"PutSnapshotBlock","error":"internal"}`,
	} {
		w.fault(rule)
		w.count("")
		c := w.mine()
		u := w.start(c, ebsdirect.Spec{Token: strings.Map(word, rule), SizeGiB: 1}, based(c.Source(base)))
		wrote := u.Write(t.Context(), changed(7, filled('c')))
		if err := u.Complete(t.Context()); err == nil || wrote != nil && !errors.Is(err, wrote) {
			t.Errorf("%s: %v after %v", rule, err, wrote)
		}
		if n := w.count("CompleteSnapshot"); n != 0 || w.snapshot(u.ID).State != state.SnapshotPending {
			t.Errorf("%s: the snapshot was completed", rule)
		}
	}
}

// word keeps the letters of a client token.
func word(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return -1
}

// TestCompleteDuringAWrite: a snapshot is not completed while a block is being written, nor can a
// block be written afterwards.
func TestCompleteDuringAWrite(t *testing.T) {
	w := newTestCloud(t)
	u := w.start(w.mine(), on(""))
	w.fault(`{"action":"PutSnapshotBlock","hold":"before","times":1}`)
	done := make(chan error, 1)
	go func() { done <- u.Write(t.Context(), changed(1, filled('a'))) }()
	w.control("GET", "held?wait=1m", "")
	if err := u.Complete(t.Context()); err == nil || !strings.Contains(err.Error(), "being written") {
		t.Errorf("during a write: %v", err)
	}
	w.control("DELETE", "held", "")
	if err := errors.Join(<-done, u.Complete(t.Context()), u.Complete(t.Context())); err != nil {
		t.Error(err)
	}
	if err := u.Write(t.Context(), changed(2, filled('a'))); err == nil || !strings.Contains(err.Error(), "is complete") {
		t.Errorf("after the completion: %v", err)
	}
}

// TestSnapshotThatNeverAppears: an upload gives up after two minutes, and names the snapshot.
func TestSnapshotThatNeverAppears(t *testing.T) {
	w := newTestCloud(t)
	w.fault(`{"action":"StartSnapshot","stale":{"for":"1h"}}`)
	u := w.start(w.mine(), on(""))
	err := w.write(u, changed(1, filled('a')))
	if err == nil || !strings.Contains(err.Error(), u.ID) || !strings.Contains(err.Error(), "not known yet since") {
		t.Errorf("the error is %v", err)
	}
	if passed := w.clock.Passed(); passed < retry.UnseenFor || passed > 2*retry.UnseenFor {
		t.Errorf("gave up after %s", passed)
	}
}

// TestDeletedDuringTheUpload: a snapshot that has disappeared later is reported at once.
func TestDeletedDuringTheUpload(t *testing.T) {
	w := newTestCloud(t)
	u := w.start(w.mine(), on(""))
	w.clock.Pass(retry.UnseenFor)
	before := w.clock.Passed()
	if err := w.Cloud().DeleteSnapshot(mine, u.ID, false); err != nil {
		t.Fatal(err)
	}
	err := u.Write(t.Context(), changed(1, filled('a')))
	if err == nil || !strings.Contains(err.Error(), u.ID) || w.clock.Passed() != before {
		t.Errorf("the error is %v, after %s", err, w.clock.Passed()-before)
	}
}

// TestSameToken: the same request starts one snapshot.
func TestSameToken(t *testing.T) {
	w := newTestCloud(t)
	first, err := w.mine().Start(t.Context(), on(""))
	second, again := w.mine().Start(t.Context(), on(""))
	if err != nil || again != nil || first.ID != second.ID {
		t.Errorf("%v and %v: %v, %v", first, second, err, again)
	}
}
