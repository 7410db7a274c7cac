package oapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/outscale/osc-sdk-go/v3/pkg/middleware"
	"github.com/outscale/osc-sdk-go/v3/pkg/options"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"
	"github.com/outscale/osc-sdk-go/v3/pkg/profile"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const (
	me     = "111111111111"
	other  = "222222222222"
	home   = "eu-west-2"
	zone   = "eu-west-2a"
	myKey  = "AKME"
	secret = "a secret"
)

// testCloud is a cloud with the Outscale API, and a client of the SDK.
type testCloud struct {
	*osc.Client
	t       *testing.T
	state   *state.Cloud
	clock   *statetest.Clock
	handler *oapi.Handler
	server  *httptest.Server
}

var mine = state.Caller{Account: me, Region: home}

// newTestCloud returns a cloud with this timing.
func newTestCloud(t *testing.T, timing state.Timing) *testCloud {
	t.Helper()
	c := &testCloud{t: t, clock: statetest.NewClock(time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC))}
	var err error
	c.state, err = state.Open(state.Config{
		Dir: filepath.Join(testdir.New(t), "state"), Disks: statetest.NewDisks(), Clock: c.clock.Now, Timing: timing,
		Accounts: []state.Account{{ID: me}, {ID: other, Alias: "somebody"}},
		Keys:     []state.Key{{ID: myKey, Secret: secret, Account: me}, {ID: "AKOTHER", Secret: secret, Account: other}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.state.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	c.handler = oapi.New(c.state, sigv4.NewAuthorizer(c.state))
	c.server = httptest.NewServer(must[*apitest.Description](t)(apitest.Load()).Checked(t, c.handler))
	t.Cleanup(c.server.Close)
	c.Client = c.client(myKey, secret)
	return c
}

// client returns a client of the SDK that does not retry.
func (c *testCloud) client(key, secret string) *osc.Client {
	c.t.Helper()
	sdk, err := osc.NewClient(&profile.Profile{
		AccessKey: key, SecretKey: secret, Region: home,
		Endpoints: profile.Endpoint{API: c.server.URL + "/api/v1"},
	}, middleware.WithBaseTransport(&http.Transport{DisableKeepAlives: true}),
		options.WithoutRetry(), options.WithoutRatelimit(), options.WithoutLogging())
	if err != nil {
		c.t.Fatal(err)
	}
	return sdk
}

// post makes a call with any body and without a signature.
func (c *testCloud) post(call, body string) (int, map[string]any) {
	c.t.Helper()
	unsigned := oapi.New(c.state, func(*http.Request, []byte, string) (state.Caller, error) { return mine, nil })
	checked := must[*apitest.Description](c.t)(apitest.Load()).Checked(c.t, unsigned)
	return answerOf(c.t, checked, httptest.NewRequest(http.MethodPost, "/api/v1/"+call, bytes.NewReader([]byte(body))))
}

func answerOf(t *testing.T, h http.Handler, r *http.Request) (int, map[string]any) {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	var got map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
		t.Fatalf("the answer %q is not JSON: %v", rec.Body, err)
	}
	return rec.Code, got
}

// must returns the value of a call that must succeed.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantCode checks that an error is a refusal with this code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refused *osc.ErrorResponse
	if !errors.As(err, &refused) {
		t.Fatalf("the error is %v, not a refusal with code %s", err, code)
	}
	if refused.GetCode() != code {
		t.Errorf("refused with code %s (%v), not %s", refused.GetCode(), err, code)
	}
	if refused.ResponseContext == nil || refused.ResponseContext.RequestId == nil {
		t.Error("a refusal without a request id")
	}
}

func ptr[T any](v T) *T { return &v }

// volume creates a volume of 8 GiB.
func (c *testCloud) volume() string {
	c.t.Helper()
	return must[*osc.CreateVolumeResponse](c.t)(c.CreateVolume(c.t.Context(),
		osc.CreateVolumeRequest{SubregionName: zone, Size: ptr(8)})).Volume.VolumeId
}

// snapshot creates a snapshot of a new volume.
func (c *testCloud) snapshot() string {
	c.t.Helper()
	return must[*osc.CreateSnapshotResponse](c.t)(c.CreateSnapshot(c.t.Context(),
		osc.CreateSnapshotRequest{VolumeId: ptr(c.volume())})).Snapshot.SnapshotId
}

// image creates an image of a snapshot.
func (c *testCloud) image(name, snapshot string) string {
	c.t.Helper()
	return must[*osc.CreateImageResponse](c.t)(c.CreateImage(c.t.Context(), imageOf(name, snapshot))).Image.ImageId
}

func imageOf(name, snapshot string) osc.CreateImageRequest {
	return osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: ptr("/dev/sda1"),
		BlockDeviceMappings: &[]osc.BlockDeviceMappingImage{{
			DeviceName: ptr("/dev/sda1"), Bsu: &osc.BsuToCreate{SnapshotId: &snapshot},
		}},
	}
}

// host returns the VM that loopcloud runs on.
func (c *testCloud) host() string {
	c.t.Helper()
	vm, ok := c.state.HostVM(home)
	if !ok {
		c.t.Fatal("there is no host")
	}
	return vm.ID
}

// imported returns the snapshot of a file, as an image import of the account creates it.
func (c *testCloud) imported(caller state.Caller) state.Snapshot {
	c.t.Helper()
	file := filepath.Join(testdir.New(c.t), "disk.raw")
	if err := os.WriteFile(file, []byte("disk"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return must[state.Snapshot](c.t)(c.state.ImportSnapshot(caller, state.SnapshotImport{File: file, IDDigits: 8}))
}
