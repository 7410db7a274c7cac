package ebsdirect_test

import (
	"crypto/sha256"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
)

// TestSourceReadsASnapshot lists and reads the blocks of a snapshot.
func TestSourceReadsASnapshot(t *testing.T) {
	w := newTestCloud(t)
	id := w.written(map[int64][]byte{0: filled('a'), 1: filled('b'), 5: filled(0), 2047: filled('z')})
	s := w.mine().Source(id)
	present, next, err := s.List(t.Context(), 0)
	want := []block.Range{{First: 0, Count: 2}, {First: 5, Count: 1}, {First: 2047, Count: 1}}
	if err != nil || next != -1 || !slices.Equal(present, want) {
		t.Errorf("the list is %v, next %d, %v", present, next, err)
	}
	if got, want := w.content(id), map[int64]byte{0: 'a', 1: 'b', 5: 0, 2047: 'z'}; !maps.Equal(got, want) {
		t.Errorf("the content is %v, not %v", got, want)
	}
	if present, next, err := s.List(t.Context(), 2); err != nil || next != -1 || !slices.Equal(present, want[1:]) {
		t.Errorf("the list from block 2 is %v, next %d, %v", present, next, err)
	}
}

// TestListInParts lists a snapshot in parts. The tokens of pages may expire between the parts.
func TestListInParts(t *testing.T) {
	w := newTestCloud(t)
	blocks := map[int64][]byte{}
	for i := range int64(250) {
		blocks[3*i] = filled(0)
	}
	s := w.mine().Source(w.written(blocks))
	s.SetPage(100)
	w.count("")
	var got []int64
	for from := int64(0); from >= 0; {
		present, next, err := s.List(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range present {
			got = append(got, r.First)
		}
		from = next
		w.control("POST", "clock?advance=2h", "")
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(blocks))) {
		t.Errorf("the blocks are %v", got)
	}
	if n := w.count("ListSnapshotBlocks"); n != 3 {
		t.Errorf("listed in %d parts, not 3", n)
	}
}

// TestExpiredTokens: a block whose token has expired, or is not kept, is listed again once, however
// many goroutines read it.
func TestExpiredTokens(t *testing.T) {
	w := newTestCloud(t)
	s := w.mine().Source(w.written(map[int64][]byte{7: filled('a'), 8: filled('b')}))
	for _, c := range []struct {
		name string
		lose func()
	}{
		{"not listed yet", func() {}},
		{"expired", func() { w.control("POST", "clock?advance=169h", "") }},
		{"dropped", func() { s.DropToken(7); s.DropToken(8) }},
	} {
		c.lose()
		name := c.name
		w.count("")
		var readers sync.WaitGroup
		for range 8 {
			readers.Go(func() {
				if got := w.byteOf(s, 7); got != 'a' {
					t.Errorf("%s: block 7 is %q", name, got)
				}
			})
		}
		readers.Wait()
		if got := w.byteOf(s, 8); got != 'b' {
			t.Errorf("%s: block 8 is %q", name, got)
		}
		if n := w.count("ListSnapshotBlocks"); n < 1 || n > 2 { // block 8 has an expired token of its own
			t.Errorf("%s: listed %d times", name, n)
		}
	}
}

// TestFetchMakesOneAttempt: the caller of Fetch and List repeats requests, but not those that fail
// for a permanent reason.
func TestFetchMakesOneAttempt(t *testing.T) {
	w := newTestCloud(t)
	id := w.written(map[int64][]byte{7: filled('a')})
	for rule, test := range map[string]struct {
		permanent bool
		want      string
	}{
		`{"action":"ACTION","times":1,"error":"throttled"}`:                                          {false, "RequestThrottledException"},
		`{"action":"ACTION","times":1,"error":"internal"}`:                                           {false, "InternalServerException"},
		`{"action":"ACTION","times":1,"body":"cut"}`:                                                 {false, "unexpected EOF"},
		`{"action":"ACTION","times":1,"error":"denied"}`:                                             {true, "AccessDeniedException"},
		`{"action":"ACTION","times":1,"status":400,"code":"ValidationException/INVALID_BLOCK"}`:      {true, "ValidationException"},
		`{"action":"ACTION","times":1,"status":402,"code":"ServiceQuotaExceededException"}`:          {true, "ServiceQuotaExceededException"},
		`{"action":"ACTION","times":1,"status":404,"code":"ResourceNotFoundException","message":""}`: {false, "ResourceNotFoundException"},
	} {
		for action, do := range map[string]func(s *ebsdirect.Source) error{
			"GetSnapshotBlock": func(s *ebsdirect.Source) error {
				_, err := s.Fetch(t.Context(), 7, make([]byte, block.Size))
				return err
			},
			"ListSnapshotBlocks": func(s *ebsdirect.Source) error { _, _, err := s.List(t.Context(), 0); return err },
		} {
			w.fault(strings.Replace(rule, "ACTION", action, 1))
			w.count("")
			s := w.mine().Source(id)
			err := do(s)
			if err == nil || errors.Is(err, block.ErrPermanent) != test.permanent || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), id) {
				t.Errorf("%s, %s: %v", action, rule, err)
			}
			if n := w.count(action); n != 1 {
				t.Errorf("%s, %s: %d attempts", action, rule, n)
			}
			if err := do(s); err != nil {
				t.Errorf("%s, %s: the second call: %v", action, rule, err)
			}
		}
	}
}

// TestFetchOfAnAbsentBlock: a block that the snapshot does not have is a permanent error.
func TestFetchOfAnAbsentBlock(t *testing.T) {
	w := newTestCloud(t)
	id := w.written(map[int64][]byte{7: filled('a')})
	for _, index := range []int64{6, 8} {
		_, err := w.mine().Source(id).Fetch(t.Context(), index, make([]byte, block.Size))
		if !errors.Is(err, block.ErrPermanent) || !strings.Contains(err.Error(), "does not have this block") {
			t.Errorf("block %d: %v", index, err)
		}
	}
}

// TestCorruptBlock: Fetch returns the checksum by which its caller recognizes a corrupt block. An
// Upload that reads one requests it again.
func TestCorruptBlock(t *testing.T) {
	w := newTestCloud(t)
	id := w.written(map[int64][]byte{7: filled('a')})
	const corrupt = `{"action":"GetSnapshotBlock","times":2,"body":"corrupt"}`
	w.fault(corrupt)
	data := make([]byte, block.Size)
	sum, err := w.mine().Source(id).Fetch(t.Context(), 7, data)
	if err != nil || sum != sha256.Sum256(filled('a')) || sum == sha256.Sum256(data) {
		t.Errorf("fetched with the checksum %x, %v", sum, err)
	}
	w.fault(corrupt)
	sum, err = w.mine().Source(id).Read(t.Context(), 7, data)
	if err != nil || sum != sha256.Sum256(data) || data[block.Size-1] != 'a' {
		t.Errorf("read with the checksum %x, %v", sum, err)
	}
}

// TestProbe: a snapshot that is shared with the account can be read, and a public one cannot. A
// missing permission is another error.
func TestProbe(t *testing.T) {
	w := newTestCloud(t)
	id := w.written(map[int64][]byte{7: filled('a')})
	theirs := w.client("AKIATHEIRS").Source(id)
	share := func(p state.PermissionChange) {
		if _, err := w.Cloud().ShareSnapshot(mine, id, p, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.mine().Source(id).Probe(t.Context()); err != nil {
		t.Errorf("the owner: %v", err)
	}
	if err := theirs.Probe(t.Context()); !errors.Is(err, ebsdirect.ErrUnreadable) {
		t.Errorf("not shared: %v", err)
	}
	share(state.PermissionChange{Add: state.Permissions{Public: true}})
	if err := theirs.Probe(t.Context()); !errors.Is(err, ebsdirect.ErrUnreadable) || !strings.Contains(err.Error(), "AccessDeniedException") {
		t.Errorf("public: %v", err)
	}
	share(state.PermissionChange{Add: state.Permissions{Accounts: []string{other}}})
	if err := theirs.Probe(t.Context()); err != nil {
		t.Errorf("shared: %v", err)
	}
	for _, rule := range []string{
		`{"action":"ListSnapshotBlocks","status":403,"code":"AccessDeniedException","message":"User: ci is not authorized to perform: ebs:ListSnapshotBlocks on resource"}`,
		`{"action":"ListSnapshotBlocks","status":403,"code":"AccessDeniedException/DEPENDENCY_ACCESS_DENIED","message":"the key"}`,
	} {
		w.fault(rule)
		if err := theirs.Probe(t.Context()); err == nil || errors.Is(err, ebsdirect.ErrUnreadable) {
			t.Errorf("%s: %v", rule, err)
		}
	}
}

// TestNewSnapshotIsUnknown: a snapshot that was completed just now is requested again while EBS does
// not know it, but not later.
func TestNewSnapshotIsUnknown(t *testing.T) {
	w := newTestCloud(t)
	id := w.written(map[int64][]byte{7: filled('a')})
	s := w.mine().Source(id)
	w.fault(`{"action":"ListSnapshotBlocks","status":404,"code":"ResourceNotFoundException/SNAPSHOT_NOT_FOUND"}`)
	if _, _, err := s.List(t.Context(), 0); err == nil || errors.Is(err, block.ErrPermanent) {
		t.Errorf("a new snapshot: %v", err)
	}
	w.clock.Pass(retry.UnseenFor)
	if _, _, err := s.List(t.Context(), 0); !errors.Is(err, block.ErrPermanent) {
		t.Errorf("two minutes later: %v", err)
	}
}

// TestTableOfOperations: each operation has retry rules, and no other.
func TestTableOfOperations(t *testing.T) {
	want := map[string]bool{}
	sdk := reflect.TypeFor[*ebs.Client]()
	for _, action := range ebsdirect.Calls() {
		want[action] = true
		if _, ok := sdk.MethodByName(action); !ok || ebsdirect.Operations[action].Repeat == 0 {
			t.Errorf("the table does not say why %s can be repeated", action)
		}
	}
	for action := range ebsdirect.Operations {
		if !want[action] {
			t.Errorf("the table has %s, which is not called", action)
		}
	}
}
