package ebsdirect_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/retry"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// The account of the tests, another one, and their region.
const (
	me    = "111111111111"
	other = "222222222222"
	home  = "eu-west-2"
)

var mine = state.Caller{Account: me, Region: home}

// testCloud is a loopcloud and clients of two accounts.
type testCloud struct {
	*loopcloud.Server
	t     *testing.T
	clock *cloudtest.Clock
	url   string

	mu    sync.Mutex
	calls map[string]int
}

func newTestCloud(t *testing.T) *testCloud {
	t.Helper()
	s, err := loopcloud.New(loopcloud.Options{Dir: testdir.New(t), Region: home, Keys: []state.Key{
		{ID: "AKIAMINE", Secret: "secret", Account: me}, {ID: "AKIATHEIRS", Secret: "secret", Account: other},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w := &testCloud{Server: s, t: t, clock: new(cloudtest.Clock)}
	server := httptest.NewServer(w.counted(s))
	t.Cleanup(func() {
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w.url = server.URL
	return w
}

// counted counts the requests before they are served.
func (w *testCloud) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		if w.calls == nil {
			w.calls = map[string]int{}
		}
		w.calls[actionOf(r)]++
		w.mu.Unlock()
		next.ServeHTTP(rw, r)
	})
}

// actionOf returns the action of a request.
func actionOf(r *http.Request) string {
	path := r.URL.Path
	switch {
	case r.Method == http.MethodPut:
		return "PutSnapshotBlock"
	case strings.HasPrefix(path, "/snapshots/completion/"):
		return "CompleteSnapshot"
	case r.Method == http.MethodPost:
		return "StartSnapshot"
	case strings.HasSuffix(path, "/blocks"):
		return "ListSnapshotBlocks"
	default:
		return "GetSnapshotBlock"
	}
}

// client returns a client of an account. Its pauses take no time.
func (w *testCloud) client(key string, change ...func(*ebsdirect.Options)) *ebsdirect.Client {
	return clientOf(w.url, key, w.clock, change...)
}

func clientOf(url, key string, clock retry.Clock, change ...func(*ebsdirect.Options)) *ebsdirect.Client {
	o := ebsdirect.Options{
		SDK: ebs.New(ebs.Options{
			Region: home, BaseEndpoint: aws.String(url), Retryer: aws.NopRetryer{},
			Credentials: credentials.NewStaticCredentialsProvider(key, "secret", ""),
		}),
		Policy: retry.Policy{Clock: clock}, Kind: kindOf,
	}
	for _, c := range change {
		c(&o)
	}
	return ebsdirect.New(o)
}

func (w *testCloud) mine() *ebsdirect.Client { return w.client("AKIAMINE") }

// kindOf classifies errors by their status, as far as the tests need it. Package amazon has the real
// function, and tests of its own.
func kindOf(err error) retry.Kind {
	var api smithy.APIError
	var answer *smithyhttp.ResponseError
	var sending *smithyhttp.RequestSendError
	switch {
	case errors.As(err, &api) && api.ErrorCode() == "RequestThrottledException":
		return retry.Throttled
	case errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusInternalServerError:
		return retry.Fault
	case errors.As(err, &sending), errors.Is(err, io.ErrUnexpectedEOF):
		return retry.Lost
	}
	return retry.Permanent
}

// control makes a request to the control API.
func (w *testCloud) control(method, path, body string) []byte {
	w.t.Helper()
	r := httptest.NewRequest(method, "/_loopcloud/"+path, strings.NewReader(body))
	r.RemoteAddr, r.Host = "127.0.0.1:1234", "127.0.0.1:4600"
	token, _ := w.Token()
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	if rec.Code >= http.StatusMultipleChoices {
		w.t.Fatalf("%s %s: %s", method, path, rec.Body)
	}
	return rec.Body.Bytes()
}

// fault replaces the fault rules.
func (w *testCloud) fault(rules ...string) {
	w.t.Helper()
	w.control(http.MethodDelete, "faults", "")
	for _, rule := range rules {
		w.control(http.MethodPost, "faults", rule)
	}
}

// count returns how often an action was requested since the last count.
func (w *testCloud) count(action string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.calls[action]
	w.calls = nil
	return n
}

// snapshot returns a snapshot as EC2 shows it.
func (w *testCloud) snapshot(id string) state.Snapshot {
	w.t.Helper()
	for _, s := range w.Cloud().Snapshots(mine) {
		if s.ID == id {
			return s
		}
	}
	w.t.Fatalf("%s does not exist", id)
	return state.Snapshot{}
}

// filled returns a block that is filled with a byte.
func filled(b byte) []byte { return bytes.Repeat([]byte{b}, block.Size) }

// changed returns a changed block.
func changed(index int64, data []byte) ebsdirect.Block {
	return ebsdirect.Block{Index: index, Data: data, Sum: sha256.Sum256(data), Zero: block.IsZero(data)}
}

// start starts a snapshot and returns it as a target of blocks.
func (w *testCloud) start(c *ebsdirect.Client, spec ebsdirect.Spec, change ...func(*ebsdirect.Target)) *ebsdirect.Upload {
	w.t.Helper()
	started, err := c.Start(limited(w.t), spec)
	if err != nil {
		w.t.Fatal(err)
	}
	target := ebsdirect.Target{Started: started, HasParent: spec.Parent != ""}
	for _, c := range change {
		c(&target)
	}
	return c.Upload(target)
}

// based makes a snapshot the base of an upload.
func based(s *ebsdirect.Source) func(*ebsdirect.Target) {
	return func(t *ebsdirect.Target) { t.Base = s }
}

// opaque makes an upload one of a snapshot that may be encrypted.
func opaque(t *ebsdirect.Target) { t.Encrypted = true }

// write writes changed blocks, the last first, and completes the snapshot.
func (w *testCloud) write(u *ebsdirect.Upload, blocks ...ebsdirect.Block) error {
	ctx := limited(w.t)
	for _, b := range slices.Backward(blocks) {
		if err := u.Write(ctx, b); err != nil {
			return err
		}
	}
	return u.Complete(ctx)
}

// written returns a completed snapshot of one GiB with these blocks.
func (w *testCloud) written(blocks map[int64][]byte) string {
	w.t.Helper()
	u := w.start(w.mine(), ebsdirect.Spec{Token: fmt.Sprint("token-", time.Now().UnixNano()), SizeGiB: 1}, opaque)
	var all []ebsdirect.Block
	for index, data := range blocks {
		all = append(all, changed(index, data))
	}
	if err := w.write(u, all...); err != nil {
		w.t.Fatal(err)
	}
	return u.ID
}

// content returns the first byte of each block that a snapshot has. All bytes of a block must be the
// same.
func (w *testCloud) content(id string) map[int64]byte {
	w.t.Helper()
	s := w.mine().Source(id)
	all := map[int64]byte{}
	for from := int64(0); from >= 0; {
		present, next, err := s.List(w.t.Context(), from)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range present {
			for index := r.First; index < r.First+r.Count; index++ {
				all[index] = w.byteOf(s, index)
			}
		}
		from = next
	}
	return all
}

func (w *testCloud) byteOf(s *ebsdirect.Source, index int64) byte {
	w.t.Helper()
	data := make([]byte, block.Size)
	sum, err := s.Fetch(w.t.Context(), index, data)
	if err != nil {
		w.t.Fatal(err)
	}
	if !bytes.Equal(data, filled(data[0])) || sha256.Sum256(data) != sum {
		w.t.Fatalf("block %d was read with other content", index)
	}
	return data[0]
}

// limited returns a context that ends before the test would hang.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}
