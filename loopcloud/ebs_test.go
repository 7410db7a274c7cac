//go:build linux

package loopcloud_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/smithy-go"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/fault"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// directClient is a client of the EBS direct APIs of a whole server. It does not retry.
type directClient struct {
	*awsebs.Client
	*loopcloud.Server
	t *testing.T
}

func newDirectClient(t *testing.T) directClient {
	t.Helper()
	s := newServer(t, loopcloud.Options{})
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return directClient{awsebs.New(awsebs.Options{
		Region: "eu-west-2", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(key.ID, key.Secret, ""),
	}), s, t}
}

// fault replaces the rules.
func (c directClient) fault(rules string) {
	c.t.Helper()
	ask(c.Server, "DELETE", "/_loopcloud/faults", "")
	if w := ask(c.Server, "POST", "/_loopcloud/faults", rules); w.Code >= 300 {
		c.t.Fatalf("%s: %s", rules, w.Body)
	}
}

func (c directClient) start(ctx context.Context) (string, error) {
	out, err := c.StartSnapshot(ctx, &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		return "", err
	}
	return *out.SnapshotId, nil
}

// put writes block 0.
func (c directClient) put(ctx context.Context, id string) error {
	data := bytes.Repeat([]byte("ab"), state.BlockSize/2)
	sum := sha256.Sum256(data)
	_, err := c.PutSnapshotBlock(ctx, &awsebs.PutSnapshotBlockInput{
		SnapshotId: aws.String(id), BlockIndex: aws.Int32(0), BlockData: bytes.NewReader(data), DataLength: aws.Int32(state.BlockSize),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: "SHA256",
	})
	return err
}

func (c directClient) complete(ctx context.Context, id string) error {
	_, err := c.CompleteSnapshot(ctx, &awsebs.CompleteSnapshotInput{SnapshotId: aws.String(id), ChangedBlocksCount: aws.Int32(1)})
	return err
}

// written returns a completed snapshot of block 0.
func (c directClient) written() string {
	c.t.Helper()
	ctx := c.t.Context()
	id, err := c.start(ctx)
	if err := errors.Join(err, c.put(ctx, id), c.complete(ctx, id)); err != nil {
		c.t.Fatal(err)
	}
	return id
}

var errChecksum = errors.New("the checksum does not match")

// get reads block 0.
func (c directClient) get(ctx context.Context, id string) error {
	list, err := c.ListSnapshotBlocks(ctx, &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
	if err != nil {
		return err
	}
	out, err := c.GetSnapshotBlock(ctx, &awsebs.GetSnapshotBlockInput{SnapshotId: aws.String(id), BlockIndex: aws.Int32(0), BlockToken: list.Blocks[0].BlockToken})
	if err != nil {
		return err
	}
	defer out.BlockData.Close()
	data, err := io.ReadAll(out.BlockData)
	if sum := sha256.Sum256(data); err == nil && base64.StdEncoding.EncodeToString(sum[:]) != *out.Checksum {
		return errChecksum
	}
	return err
}

// TestDirectFaults injects the faults of docs/loopcloud.md that matter for the EBS direct APIs.
func TestDirectFaults(t *testing.T) {
	c := newDirectClient(t)
	id := c.written()
	pending, err := c.start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	get := func() error { return c.get(t.Context(), id) }
	put := func() error { return c.put(t.Context(), pending) }
	hasty := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the request must have arrived
		defer cancel()
		return c.put(ctx, pending)
	}
	started := func() error {
		id, err := c.start(t.Context())
		return errors.Join(err, c.put(t.Context(), id))
	}
	for rule, test := range map[string]struct {
		do   func() error
		want string // a part of the error
	}{
		`{"action":"PutSnapshotBlock","times":1,"error":"throttled"}`:                                                              {put, "RequestThrottledException"},
		`{"dialect":"ebs","times":1,"error":"internal"}`:                                                                           {get, "InternalServerException"},
		`{"action":"PutSnapshotBlock","times":1,"status":400,"code":"ValidationException/WRITE_REQUEST_TIMEOUT","message":"slow"}`: {put, "ValidationException: slow"},
		`{"action":"PutSnapshotBlock","times":1,"hang":"before"}`:                                                                  {hasty, "context deadline exceeded"},
		`{"action":"PutSnapshotBlock","times":1,"drop":"after"}`:                                                                   {put, "connection reset"},
		`{"action":"GetSnapshotBlock","times":1,"body":"cut"}`:                                                                     {get, "unexpected EOF"},
		`{"action":"GetSnapshotBlock","times":1,"body":"corrupt"}`:                                                                 {get, errChecksum.Error()},
		`{"action":"StartSnapshot","times":1,"stale":{"changes":1}}`:                                                               {started, "ResourceNotFoundException"},
		`{"action":"StartSnapshot","times":1,"stale":{"for":"1h"}}`:                                                                {started, "ResourceNotFoundException"},
	} {
		c.fault(rule)
		if err := test.do(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: the error is %v, want %s", rule, err, test.want)
		}
	}
	if err := errors.Join(get(), put(), c.complete(t.Context(), pending), c.get(t.Context(), pending)); err != nil {
		t.Errorf("without faults: %v", err)
	}
	c.fault(`{"action":"CompleteSnapshot","outcome":"error"}`)
	failed := c.written()
	var missing smithy.APIError
	if err := c.get(t.Context(), failed); !errors.As(err, &missing) || missing.ErrorCode() != "ResourceNotFoundException" {
		t.Errorf("a failed snapshot can be read: %v", err)
	}
}

// TestDirectCallsAreRecorded: the log of calls has the name, the account and the region.
func TestDirectCallsAreRecorded(t *testing.T) {
	c := newDirectClient(t)
	c.written()
	var calls []fault.Call
	if err := json.Unmarshal(ask(c.Server, "GET", "/_loopcloud/calls", "").Body.Bytes(), &calls); err != nil || len(calls) != 3 {
		t.Fatalf("the calls are %+v (%v)", calls, err)
	}
	for i, action := range []string{"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot"} {
		if got := calls[i]; got.Dialect != "ebs" || got.Action != action || got.Account != state.DefaultAccount || got.Region != "eu-west-2" {
			t.Errorf("call %d is %+v", i, got)
		}
	}
}

// TestClockOfTokens: the control API moves the time at which tokens expire.
func TestClockOfTokens(t *testing.T) {
	c := newDirectClient(t)
	id := c.written()
	list, err := c.ListSnapshotBlocks(t.Context(), &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
	if err != nil {
		t.Fatal(err)
	}
	ask(c.Server, "POST", "/_loopcloud/clock?advance=168h", "")
	_, err = c.GetSnapshotBlock(t.Context(), &awsebs.GetSnapshotBlockInput{SnapshotId: aws.String(id), BlockIndex: aws.Int32(0), BlockToken: list.Blocks[0].BlockToken})
	if err == nil || !strings.Contains(err.Error(), "ValidationException") {
		t.Errorf("after seven days: %v", err)
	}
}
