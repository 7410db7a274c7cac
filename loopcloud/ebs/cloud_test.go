//go:build linux

package ebs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ebs"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const (
	me    = "111111111111"
	other = "222222222222"
	home  = "eu-west-2"
	size  = int32(state.BlockSize)
)

var mine = state.Caller{Account: me, Region: home}

// testCloud is a cloud with real disks behind the EBS direct APIs, and clients of two accounts.
type testCloud struct {
	*state.Cloud
	t        testing.TB
	cfg      state.Config
	clock    *statetest.Clock
	outcomes *statetest.Outcomes
	server   *httptest.Server
	handler  http.Handler
}

func newTestCloud(t testing.TB, timing state.Timing) *testCloud {
	t.Helper()
	w := &testCloud{t: t, clock: statetest.NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)), outcomes: &statetest.Outcomes{}}
	w.cfg = state.Config{
		Dir: testdir.New(t), Clock: w.clock.Now, Timing: timing, Outcome: w.outcomes.Outcome,
		Keys: []state.Key{{ID: "AKIAMINE", Secret: "secret", Account: me}, {ID: "AKIATHEIRS", Secret: "secret", Account: other}},
	}
	w.open()
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }))
	t.Cleanup(func() {
		w.server.Close()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *testCloud) open() {
	w.t.Helper()
	disks, err := volume.Open(w.cfg.Dir, volume.Xen, volume.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Disks = disks
	if w.Cloud, err = state.Open(w.cfg); err != nil {
		w.t.Fatal(err)
	}
	w.handler = ebs.New(w.Cloud, sigv4.NewAuthorizer(w.Cloud))
}

// restart closes the cloud and opens it again.
func (w *testCloud) restart() {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// client returns a client that does not retry.
func (w *testCloud) client(key string) *awsebs.Client {
	return awsebs.New(awsebs.Options{
		Region: home, BaseEndpoint: aws.String(w.server.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key, "secret", ""),
	})
}

func (w *testCloud) mine() *awsebs.Client   { return w.client("AKIAMINE") }
func (w *testCloud) theirs() *awsebs.Client { return w.client("AKIATHEIRS") }

// start starts a snapshot of one GiB.
func (w *testCloud) start(change ...func(*awsebs.StartSnapshotInput)) string {
	w.t.Helper()
	in := &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}
	for _, c := range change {
		c(in)
	}
	out, err := w.mine().StartSnapshot(context.Background(), in)
	if err != nil {
		w.t.Fatal(err)
	}
	return *out.SnapshotId
}

func parent(id string) func(*awsebs.StartSnapshotInput) {
	return func(in *awsebs.StartSnapshotInput) { in.ParentSnapshotId = aws.String(id) }
}

func encrypted(in *awsebs.StartSnapshotInput) { in.Encrypted = aws.Bool(true) }

// putInput returns a request to write a block.
func putInput(id string, index int32, data []byte) *awsebs.PutSnapshotBlockInput {
	sum := sha256.Sum256(data)
	return &awsebs.PutSnapshotBlockInput{
		SnapshotId: aws.String(id), BlockIndex: aws.Int32(index), BlockData: bytes.NewReader(data), DataLength: aws.Int32(size),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256,
	}
}

// put writes blocks.
func (w *testCloud) put(id string, blocks map[int32][]byte) {
	w.t.Helper()
	for index, data := range blocks {
		if _, err := w.mine().PutSnapshotBlock(context.Background(), putInput(id, index, data)); err != nil {
			w.t.Fatalf("block %d: %v", index, err)
		}
	}
}

// completeInput returns a request to seal a snapshot with these blocks.
func completeInput(id string, blocks map[int32][]byte) *awsebs.CompleteSnapshotInput {
	hash := sha256.New()
	for index := range int32(2048) {
		if data, ok := blocks[index]; ok {
			sum := sha256.Sum256(data)
			hash.Write(sum[:])
		}
	}
	return &awsebs.CompleteSnapshotInput{
		SnapshotId: aws.String(id), ChangedBlocksCount: aws.Int32(int32(len(blocks))),
		Checksum:          aws.String(base64.StdEncoding.EncodeToString(hash.Sum(nil))),
		ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256, ChecksumAggregationMethod: types.ChecksumAggregationMethodChecksumAggregationLinear,
	}
}

func (w *testCloud) complete(id string, blocks map[int32][]byte) {
	w.t.Helper()
	if _, err := w.mine().CompleteSnapshot(context.Background(), completeInput(id, blocks)); err != nil {
		w.t.Fatal(err)
	}
}

// written returns a completed snapshot with these blocks.
func (w *testCloud) written(blocks map[int32][]byte, change ...func(*awsebs.StartSnapshotInput)) string {
	w.t.Helper()
	id := w.start(change...)
	w.put(id, blocks)
	w.complete(id, blocks)
	return id
}

// snapshot returns a snapshot as EC2 shows it.
func (w *testCloud) snapshot(id string) state.Snapshot {
	w.t.Helper()
	for _, s := range w.Snapshots(mine) {
		if s.ID == id {
			return s
		}
	}
	w.t.Fatalf("%s does not exist", id)
	return state.Snapshot{}
}

// blocks returns the indexes and tokens of a snapshot's blocks.
func (w *testCloud) blocks(id string) (indexes []int32, tokens map[int32]string) {
	w.t.Helper()
	tokens = map[int32]string{}
	pages := awsebs.NewListSnapshotBlocksPaginator(w.mine(), &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range page.Blocks {
			indexes = append(indexes, *b.BlockIndex)
			tokens[*b.BlockIndex] = *b.BlockToken
		}
	}
	return indexes, tokens
}

// get reads a block and verifies its checksum.
func (w *testCloud) get(id string, index int32, token string) []byte {
	w.t.Helper()
	out, err := w.mine().GetSnapshotBlock(context.Background(), getInput(id, index, token))
	if err != nil {
		w.t.Fatal(err)
	}
	defer out.BlockData.Close()
	data, err := io.ReadAll(out.BlockData)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if *out.Checksum != base64.StdEncoding.EncodeToString(sum[:]) || *out.DataLength != size || len(data) != int(size) || out.ChecksumAlgorithm != "SHA256" {
		w.t.Fatalf("block %d has %d bytes and the checksum %s", index, len(data), *out.Checksum)
	}
	return data
}

func getInput(id string, index int32, token string) *awsebs.GetSnapshotBlockInput {
	return &awsebs.GetSnapshotBlockInput{SnapshotId: aws.String(id), BlockIndex: aws.Int32(index), BlockToken: aws.String(token)}
}

// random returns a block of random bytes that depend on the seed.
func random(seed uint64) []byte {
	data := make([]byte, size)
	source := rand.New(rand.NewPCG(seed, 0))
	for i := range data {
		data[i] = byte(source.Uint32())
	}
	return data
}

func zero() []byte { return make([]byte, size) }

// wantError checks the code, the reason and the HTTP status of an error.
func wantError(t *testing.T, err error, status int, code, reason string) {
	t.Helper()
	var api smithy.APIError
	var response interface{ HTTPStatusCode() int }
	if !errors.As(err, &api) || !errors.As(err, &response) {
		t.Errorf("the error is %v, not %d %s %s", err, status, code, reason)
		return
	}
	if got := reasonOf(err); api.ErrorCode() != code || got != reason || response.HTTPStatusCode() != status {
		t.Errorf("the error is %d %s %s (%v), not %d %s %s", response.HTTPStatusCode(), api.ErrorCode(), got, err, status, code, reason)
	}
}

// reasonOf returns the reason of an error, "" if it has none.
func reasonOf(err error) string {
	var invalid *types.ValidationException
	var denied *types.AccessDeniedException
	var missing *types.ResourceNotFoundException
	var throttled *types.RequestThrottledException
	var quota *types.ServiceQuotaExceededException
	switch {
	case errors.As(err, &invalid):
		return string(invalid.Reason)
	case errors.As(err, &denied):
		return string(denied.Reason)
	case errors.As(err, &missing):
		return string(missing.Reason)
	case errors.As(err, &throttled):
		return string(throttled.Reason)
	case errors.As(err, &quota):
		return string(quota.Reason)
	}
	return ""
}
