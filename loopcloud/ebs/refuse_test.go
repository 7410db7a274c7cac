//go:build linux

package ebs_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsebs "github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ebs"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestRefusedStarts(t *testing.T) {
	w := newTestCloud(t, state.Timing{Direct: state.Direct{Complete: time.Hour}})
	plain, secret := w.written(nil), w.written(nil, encrypted)
	large := w.written(nil, func(in *awsebs.StartSnapshotInput) { in.VolumeSize = aws.Int64(2) })
	w.clock.Pass(time.Hour)
	pending := w.start()
	key := state.KeyARN(mine, "alias/own")
	for name, test := range map[string]struct {
		change func(in *awsebs.StartSnapshotInput)
		status int
		code   string
		reason string
	}{
		"no size":          {func(in *awsebs.StartSnapshotInput) { in.VolumeSize = aws.Int64(0) }, 400, "ValidationException", "INVALID_VOLUME_SIZE"},
		"too large":        {func(in *awsebs.StartSnapshotInput) { in.VolumeSize = aws.Int64(65537) }, 400, "ValidationException", "INVALID_VOLUME_SIZE"},
		"below the parent": {parent(large), 400, "ValidationException", "INVALID_VOLUME_SIZE"},
		"pending parent":   {parent(pending), 400, "ValidationException", "INVALID_SNAPSHOT_ID"},
		"no parent":        {parent("snap-00000000000000000"), 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"},
		"malformed parent": {parent("vol-1"), 400, "ValidationException", "INVALID_SNAPSHOT_ID"},
		"parent and encryption": {func(in *awsebs.StartSnapshotInput) { parent(plain)(in); in.Encrypted = aws.Bool(false) },
			400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"parent and key": {func(in *awsebs.StartSnapshotInput) { parent(secret)(in); in.KmsKeyArn = aws.String(key) },
			400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"key without encryption": {func(in *awsebs.StartSnapshotInput) { in.KmsKeyArn = aws.String(key) }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"missing key": {func(in *awsebs.StartSnapshotInput) {
			encrypted(in)
			in.KmsKeyArn = aws.String(state.KeyARN(mine, "key/00000000-0000-0000-0000-000000000000"))
		}, 400, "ValidationException", "INVALID_CUSTOMER_KEY"},
		"malformed key": {func(in *awsebs.StartSnapshotInput) { encrypted(in); in.KmsKeyArn = aws.String("alias/own") }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"timeout":       {func(in *awsebs.StartSnapshotInput) { in.Timeout = aws.Int32(9) }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"description":   {func(in *awsebs.StartSnapshotInput) { in.Description = aws.String(strings.Repeat("x", 256)) }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"token":         {func(in *awsebs.StartSnapshotInput) { in.ClientToken = aws.String("a b") }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"tag":           {func(in *awsebs.StartSnapshotInput) { in.Tags = []types.Tag{{Key: aws.String("")}} }, 400, "ValidationException", "INVALID_TAG"},
		"tag twice": {func(in *awsebs.StartSnapshotInput) {
			in.Tags = []types.Tag{{Key: aws.String("a")}, {Key: aws.String("a")}}
		}, 400, "ValidationException", "INVALID_TAG"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}
			test.change(in)
			_, err := w.mine().StartSnapshot(t.Context(), in)
			wantError(t, err, test.status, test.code, test.reason)
		})
	}
}

// TestEncryption: the table of encryption outcomes in EBS's user guide.
func TestEncryption(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	plain := w.written(nil)
	own := state.KeyARN(mine, "alias/own")
	secret := w.written(nil, encrypted, func(in *awsebs.StartSnapshotInput) { in.KmsKeyArn = aws.String(own) })
	managed := state.KeyARN(mine, state.DefaultKeyAlias)
	yes, no := aws.Bool(true), aws.Bool(false)
	for _, test := range []struct {
		byDefault bool
		parent    string
		encrypted *bool
		key       string
		want      string // the key; "no" is none and "" a refusal
	}{
		{false, "", nil, "", "no"}, {false, "", no, "", "no"}, {false, "", yes, "", managed}, {false, "", yes, own, own}, {false, "", no, own, ""},
		{true, "", nil, "", managed}, {true, "", no, "", ""}, {true, "", yes, "", managed}, {true, "", yes, own, own}, {true, "", no, own, ""},
		{false, plain, nil, "", "no"}, {true, plain, nil, "", ""}, {false, secret, nil, "", own}, {true, secret, nil, "", own},
		{false, plain, yes, "", ""}, {false, secret, yes, "", ""}, {false, secret, nil, own, ""},
	} {
		if _, err := w.ChangeSettings(mine, func(s *state.Settings) error { s.EncryptByDefault = test.byDefault; return nil }, false); err != nil {
			t.Fatal(err)
		}
		in := &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Encrypted: test.encrypted}
		if test.parent != "" {
			in.ParentSnapshotId = aws.String(test.parent)
		}
		if test.key != "" {
			in.KmsKeyArn = aws.String(test.key)
		}
		out, err := w.mine().StartSnapshot(t.Context(), in)
		if test.want == "" {
			wantError(t, err, 400, "ValidationException", "INVALID_PARAMETER_VALUE")
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		s := w.snapshot(*out.SnapshotId)
		if want := test.want != "no"; s.Encrypted != want || want && (s.KMSKeyID != test.want || *out.KmsKeyArn != test.want) {
			t.Errorf("%+v: encrypted is %t, with %s", test, s.Encrypted, s.KMSKeyID)
		}
	}
}

func TestRefusedWrites(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id, done := w.start(), w.written(nil)
	volume, _ := w.volumeOf(done, 1)
	ofVolume := w.snapshotOf(volume)
	for name, test := range map[string]struct {
		change func(in *awsebs.PutSnapshotBlockInput)
		status int
		code   string
		reason string
	}{
		"missing":      {func(in *awsebs.PutSnapshotBlockInput) { in.SnapshotId = aws.String("snap-00000000000000000") }, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"},
		"malformed":    {func(in *awsebs.PutSnapshotBlockInput) { in.SnapshotId = aws.String("vol-00000000") }, 400, "ValidationException", "INVALID_SNAPSHOT_ID"},
		"completed":    {func(in *awsebs.PutSnapshotBlockInput) { in.SnapshotId = aws.String(done) }, 400, "ValidationException", "INVALID_SNAPSHOT_ID"},
		"of a volume":  {func(in *awsebs.PutSnapshotBlockInput) { in.SnapshotId = aws.String(ofVolume) }, 400, "ValidationException", "INVALID_SNAPSHOT_ID"},
		"after it":     {func(in *awsebs.PutSnapshotBlockInput) { in.BlockIndex = aws.Int32(2048) }, 400, "ValidationException", "INVALID_BLOCK"},
		"before it":    {func(in *awsebs.PutSnapshotBlockInput) { in.BlockIndex = aws.Int32(-1) }, 400, "ValidationException", "INVALID_BLOCK"},
		"length":       {func(in *awsebs.PutSnapshotBlockInput) { in.DataLength = aws.Int32(4096) }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"short":        {func(in *awsebs.PutSnapshotBlockInput) { in.BlockData = strings.NewReader("short") }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"too long":     {func(in *awsebs.PutSnapshotBlockInput) { in.BlockData = strings.NewReader(strings.Repeat("x", 1<<20)) }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"algorithm":    {func(in *awsebs.PutSnapshotBlockInput) { in.ChecksumAlgorithm = "MD5" }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"no checksum":  {func(in *awsebs.PutSnapshotBlockInput) { in.Checksum = aws.String("AAAA") }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"progress":     {func(in *awsebs.PutSnapshotBlockInput) { in.Progress = aws.Int32(101) }, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"wrong digest": {func(in *awsebs.PutSnapshotBlockInput) { in.Checksum = putInput("", 0, random(1)).Checksum }, 403, "InvalidSignatureException", ""},
	} {
		t.Run(name, func(t *testing.T) {
			in := putInput(id, 0, zero())
			test.change(in)
			_, err := w.mine().PutSnapshotBlock(t.Context(), in)
			wantError(t, err, test.status, test.code, test.reason)
		})
	}
	w.complete(id, nil) // none of them counts as written
	if s := w.snapshot(id); s.State != state.SnapshotCompleted {
		t.Errorf("the snapshot is %s: %s", s.State, s.Reason)
	}
}

func TestRefusedSealsAndReads(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id, done := w.start(), w.written(map[int32][]byte{0: zero()})
	c, ctx := w.mine(), context.Background()
	for name, test := range map[string]struct {
		do     func() error
		status int
		code   string
		reason string
	}{
		"list of a pending snapshot": {func() error {
			_, err := c.ListSnapshotBlocks(ctx, &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(id)})
			return err
		}, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"},
		"read of a pending snapshot": {func() error { _, err := c.GetSnapshotBlock(ctx, getInput(id, 0, "AAAA")); return err }, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"},
		"comparison with a pending snapshot": {func() error {
			_, err := c.ListChangedBlocks(ctx, &awsebs.ListChangedBlocksInput{FirstSnapshotId: aws.String(done), SecondSnapshotId: aws.String(id)})
			return err
		}, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"},
		"comparison without a first snapshot": {func() error {
			_, err := c.ListChangedBlocks(ctx, &awsebs.ListChangedBlocksInput{SecondSnapshotId: aws.String(done)})
			return err
		}, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"block after the end": {func() error { _, err := c.GetSnapshotBlock(ctx, getInput(done, 2048, "AAAA")); return err }, 400, "ValidationException", "INVALID_BLOCK"},
		"page size": {func() error {
			_, err := c.ListSnapshotBlocks(ctx, &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(done), MaxResults: aws.Int32(10_001)})
			return err
		}, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"page token": {func() error {
			_, err := c.ListSnapshotBlocks(ctx, &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(done), NextToken: aws.String("AAAA")})
			return err
		}, 400, "ValidationException", "INVALID_PAGE_TOKEN"},
		"start of the list": {func() error {
			_, err := c.ListSnapshotBlocks(ctx, &awsebs.ListSnapshotBlocksInput{SnapshotId: aws.String(done), StartingBlockIndex: aws.Int32(-1)})
			return err
		}, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"negative count": {func() error {
			_, err := c.CompleteSnapshot(ctx, &awsebs.CompleteSnapshotInput{SnapshotId: aws.String(id), ChangedBlocksCount: aws.Int32(-1)})
			return err
		}, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"aggregation": {func() error {
			in := completeInput(id, nil)
			in.ChecksumAggregationMethod = "TREE"
			_, err := c.CompleteSnapshot(ctx, in)
			return err
		}, 400, "ValidationException", "INVALID_PARAMETER_VALUE"},
		"missing snapshot": {func() error {
			_, err := c.CompleteSnapshot(ctx, completeInput("snap-00000000000000000", nil))
			return err
		}, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, test.do(), test.status, test.code, test.reason) })
	}
}

// TestWriteOfTwo: a block that another request writes is refused.
func TestWriteOfTwo(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start()
	writes, write := make(chan struct{}), make(chan struct{})
	w.cfg.Disks = gated{w.cfg.Disks.(state.BlockDisks), w.cfg.Disks, writes, write}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.Cloud, err = state.Open(w.cfg); err != nil {
		t.Fatal(err)
	}
	w.handler = ebs.New(w.Cloud, sigv4.NewAuthorizer(w.Cloud))
	first := make(chan error, 1)
	go func() {
		_, err := w.mine().PutSnapshotBlock(context.Background(), putInput(id, 0, zero()))
		first <- err
	}()
	<-writes
	_, err = w.mine().PutSnapshotBlock(t.Context(), putInput(id, 0, random(1)))
	wantError(t, err, 400, "ValidationException", "CONFLICTING_BLOCK_UPDATE")
	close(write)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// gated are disks whose WriteBlock waits.
type gated struct {
	state.BlockDisks
	state.Disks
	writes chan<- struct{}
	write  <-chan struct{}
}

func (g gated) WriteBlock(id string, index int64, data []byte, sum [32]byte) error {
	g.writes <- struct{}{}
	<-g.write
	return g.BlockDisks.WriteBlock(id, index, data, sum)
}

func TestQuotas(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	for range 100 {
		w.start()
	}
	_, err := w.mine().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	wantError(t, err, 400, "ConcurrentLimitExceededException", "")
	w.cfg.SnapshotQuota = 1
	w.restart()
	if _, err := w.theirs().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}); err != nil {
		t.Fatal(err)
	}
	_, err = w.theirs().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	wantError(t, err, 402, "ServiceQuotaExceededException", "DEPENDENCY_SERVICE_QUOTA_EXCEEDED")
}

// TestStaleStart: a new snapshot can be unknown to writes for a time or a number of requests.
func TestStaleStart(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	w.outcomes.Next(state.ActStartSnapshot, state.Outcome{Stale: state.Stale{For: time.Minute, Changes: 1}})
	id := w.start()
	for _, pass := range []time.Duration{59 * time.Second, time.Second} {
		w.clock.Pass(pass)
		_, err := w.mine().PutSnapshotBlock(t.Context(), putInput(id, 0, zero()))
		wantError(t, err, 404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
	}
	w.put(id, map[int32][]byte{0: zero()})
}

// TestStaleCompletion: EC2 may show a completed snapshot as pending for a time.
func TestStaleCompletion(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	w.outcomes.Next(state.ActCompleteSnapshot, state.Outcome{Stale: state.Stale{For: time.Minute}})
	id := w.written(nil)
	if s := w.snapshot(id); s.State != state.SnapshotPending {
		t.Errorf("at once it is %s", s.State)
	}
	w.clock.Pass(time.Minute)
	if s := w.snapshot(id); s.State != state.SnapshotCompleted {
		t.Errorf("after a minute it is %s", s.State)
	}
}

func TestOutcomes(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start()
	w.outcomes.Next(state.ActPutSnapshotBlock, state.Outcome{Ending: state.DiskFull})
	_, err := w.mine().PutSnapshotBlock(t.Context(), putInput(id, 0, zero()))
	wantError(t, err, 500, "InternalServerException", "")
	w.outcomes.Next(state.ActCompleteSnapshot, state.Outcome{Ending: state.EndsInError})
	w.complete(id, nil)
	if s := w.snapshot(id); s.State != state.SnapshotError {
		t.Errorf("it is %s", s.State)
	}
	id = w.start()
	w.outcomes.Next(state.ActCompleteSnapshot, state.Outcome{Ending: state.NeverEnds})
	w.complete(id, nil)
	w.clock.Pass(24 * time.Hour)
	if s := w.snapshot(id); s.State != state.SnapshotPending {
		t.Errorf("it is %s", s.State)
	}
	w.outcomes.Next(state.ActStartSnapshot, state.Outcome{Ending: state.DiskFull})
	_, err = w.mine().StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	wantError(t, err, 500, "InternalServerException", "")
}

func TestAuthentication(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	_, err := w.client("AKIANOBODY").StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	wantError(t, err, 403, "UnrecognizedClientException", "")
	c := w.mine()
	_, err = c.StartSnapshot(t.Context(), &awsebs.StartSnapshotInput{VolumeSize: aws.Int64(1)}, func(o *awsebs.Options) { o.Region = "mars-north-1" })
	wantError(t, err, 403, "InvalidSignatureException", "")
	resp, err := http.Post(w.server.URL+"/snapshots", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("X-Amzn-Errortype"); resp.StatusCode != http.StatusForbidden || got != "MissingAuthenticationTokenException" {
		t.Errorf("without a signature: %d %s", resp.StatusCode, got)
	}
}

// TestUnsignedBlock: the SDK does not sign the block itself, and a block that was changed on its
// way is refused.
func TestUnsignedBlock(t *testing.T) {
	w := newTestCloud(t, state.Timing{})
	id := w.start()
	inner, hash := w.handler, ""
	w.handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		hash = r.Header.Get("X-Amz-Content-Sha256")
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("x"), r.Body))
		r.ContentLength = -1
		inner.ServeHTTP(rw, r)
	})
	_, err := w.mine().PutSnapshotBlock(t.Context(), putInput(id, 0, random(1)))
	wantError(t, err, 400, "ValidationException", "INVALID_PARAMETER_VALUE")
	if hash != "UNSIGNED-PAYLOAD" {
		t.Errorf("the SDK signs the body: %q", hash)
	}
}

// TestFaultNames: each named fault is one of the API's errors.
func TestFaultNames(t *testing.T) {
	h := ebs.New(newTestCloud(t, state.Timing{}).Cloud, nil)
	for name, want := range map[string]string{
		"throttled": "400 RequestThrottledException ACCOUNT_THROTTLED", "throttled-account": "400 RequestThrottledException ACCOUNT_THROTTLED",
		"throttled-call": "400 RequestThrottledException RESOURCE_LEVEL_THROTTLE", "internal": "500 InternalServerException ",
		"unavailable": "503 ServiceUnavailableException ", "denied": "403 AccessDeniedException UNAUTHORIZED_ACCOUNT",
	} {
		w := httptest.NewRecorder()
		h.Refuse(w, func() int { s, _, _ := h.Fault(name); return s }(), func() string { _, c, _ := h.Fault(name); return c }(), "m")
		var body struct{ Message, Reason string }
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Message != "m" {
			t.Fatalf("%s: %s", name, w.Body)
		}
		if got := strings.Join([]string{w.Result().Status[:3], w.Header().Get("X-Amzn-Errortype"), body.Reason}, " "); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
}

// TestKnownReasons: every reason in the package is one that the SDK knows.
func TestKnownReasons(t *testing.T) {
	known := []string{""}
	for _, r := range types.ValidationExceptionReason("").Values() {
		known = append(known, string(r))
	}
	for _, r := range types.AccessDeniedExceptionReason("").Values() {
		known = append(known, string(r))
	}
	for _, r := range types.RequestThrottledExceptionReason("").Values() {
		known = append(known, string(r))
	}
	for _, r := range types.ResourceNotFoundExceptionReason("").Values() {
		known = append(known, string(r))
	}
	for _, r := range types.ServiceQuotaExceededExceptionReason("").Values() {
		known = append(known, string(r))
	}
	for _, reason := range ebs.Reasons() {
		if !slices.Contains(known, reason) {
			t.Errorf("the SDK does not know the reason %s", reason)
		}
	}
}
