package imds_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/imds"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

var ctx = context.Background()

// box is a cloud with a metadata service.
type box struct {
	*testing.T
	st    *state.Cloud
	vm    state.VM
	url   string
	clock *statetest.Clock
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{T: t, clock: statetest.NewClock(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))}
	st, err := state.Open(state.Config{
		Dir: testdir.New(t), Disks: statetest.NewDisks(), Clock: b.clock.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(imds.New(st))
	t.Cleanup(func() {
		server.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	b.st, b.url = st, server.URL
	b.vm, _ = st.HostVM(st.DefaultRegion())
	return b
}

// client returns the SDK's client, which must not fall back to version 1.
func (b *box) client() *sdk.Client {
	return sdk.New(sdk.Options{ClientEnableState: sdk.ClientEnabled, Endpoint: b.url, EnableFallback: aws.FalseTernary, Retryer: aws.NopRetryer{}})
}

func TestSDKReadsTheDocument(t *testing.T) {
	b := newBox(t)
	got, err := b.client().GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.InstanceID != b.vm.ID || got.Region != "eu-west-2" || got.AvailabilityZone != "eu-west-2a" || got.AccountID != state.DefaultAccount ||
		got.Architecture != b.vm.Architecture || got.InstanceType != b.vm.Type || got.PrivateIP != b.vm.PrivateIP().String() ||
		!got.PendingTime.Equal(b.vm.Launched) || got.Version != "2017-09-30" || got.ImageID != "" {
		t.Errorf("got %+v", got)
	}
	region, err := b.client().GetRegion(ctx, nil)
	if err != nil || region.Region != "eu-west-2" {
		t.Errorf("got %+v, %v", region, err)
	}
}

func TestSDKReadsMetadata(t *testing.T) {
	b := newBox(t)
	b.attach("/dev/sdg", "/dev/sdf")
	name := "ip-" + strings.ReplaceAll(b.vm.PrivateIP().String(), ".", "-") + ".eu-west-2.compute.internal"
	for path, want := range map[string]string{
		"instance-id":                    b.vm.ID,
		"instance-type":                  "m5.large",
		"placement/availability-zone":    "eu-west-2a",
		"placement/availability-zone-id": "euw2-az1",
		"placement/region":               "eu-west-2",
		"placement/":                     "availability-zone\navailability-zone-id\nregion",
		"local-ipv4":                     b.vm.PrivateIP().String(),
		"local-hostname":                 name,
		"hostname":                       name,
		"services/domain":                "amazonaws.com",
		"block-device-mapping":           "ami\nebs1\nebs2\nroot",
		"block-device-mapping/root":      "/dev/sda1",
		"block-device-mapping/ami":       "sda1",
		"block-device-mapping/ebs1":      "sdf",
		"block-device-mapping/ebs2":      "sdg",
	} {
		out, err := b.client().GetMetadata(ctx, &sdk.GetMetadataInput{Path: path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		text, err := io.ReadAll(out.Content)
		if err != nil || string(text) != want {
			t.Errorf("%s: got %q, %v, want %q", path, text, err, want)
		}
	}
	for _, path := range []string{"ami-id", "public-ipv4", "instance-id/x", "instance"} {
		if _, err := b.client().GetMetadata(ctx, &sdk.GetMetadataInput{Path: path}); err == nil {
			t.Errorf("%s was answered", path)
		}
	}
}

// attach attaches a new volume under each name.
func (b *box) attach(devices ...string) {
	b.Helper()
	caller := state.Caller{Account: b.vm.Account, Region: b.vm.Region}
	for _, device := range devices {
		v, err := b.st.CreateVolume(caller, state.VolumeRequest{Zone: b.vm.Zone, SizeGiB: 1})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := b.st.AttachVolume(caller, state.AttachRequest{VolumeID: v.ID, VMID: b.vm.ID, Device: device}); err != nil {
			b.Fatal(err)
		}
	}
}

// send returns the status and the text of a response. The headers are alternating names and
// values.
func (b *box) send(method, path string, headers ...string) (int, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(ctx, method, b.url+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestMetadataOptions checks that the service behaves as the machine's options specify.
func TestMetadataOptions(t *testing.T) {
	for name, test := range map[string]struct {
		options     state.MetadataOptions
		bare, token int
	}{
		"default":         {state.MetadataOptions{}, http.StatusOK, http.StatusOK},
		"tokens required": {state.MetadataOptions{TokensRequired: true}, http.StatusUnauthorized, http.StatusOK},
		"turned off":      {state.MetadataOptions{Disabled: true}, http.StatusForbidden, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t)
			b.set(test.options)
			if status, _ := b.send(http.MethodGet, "/latest/meta-data/instance-id"); status != test.bare {
				t.Errorf("without a token: %d", status)
			}
			status, token := b.send(http.MethodPut, "/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
			if status != test.token {
				t.Errorf("for a token: %d", status)
			}
			if status != http.StatusOK {
				token = "none"
			}
			if status, _ := b.send(http.MethodGet, "/latest/meta-data/instance-id", "X-Aws-Ec2-Metadata-Token", token); status != test.token {
				t.Errorf("with a token: %d", status)
			}
		})
	}
}

// set sets the machine's metadata options.
func (b *box) set(options state.MetadataOptions) {
	b.Helper()
	at := state.Caller{Account: b.vm.Account, Region: b.vm.Region}
	if _, err := b.st.SetMetadata(at, b.vm.ID, func(m *state.MetadataOptions) { *m = options }, false); err != nil {
		b.Fatal(err)
	}
}

// TestHopLimit checks that a token travels only the configured number of hops; other responses
// have no limit.
func TestHopLimit(t *testing.T) {
	b := newBox(t)
	far := imds.New(b.st)
	far.Hops = 2
	ask := func(ctx context.Context, method, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, method, path, nil)
		r.Header.Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		w := httptest.NewRecorder()
		far.ServeHTTP(w, r)
		return w
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if w := ask(gone, http.MethodPut, "/latest/api/token"); w.Body.Len() > 0 {
		t.Errorf("the token has travelled: %s", w.Body)
	}
	if w := ask(t.Context(), http.MethodGet, "/latest/meta-data/instance-id"); w.Code != http.StatusOK {
		t.Errorf("an entry: %d", w.Code)
	}
	b.set(state.MetadataOptions{HopLimit: 2})
	if w := ask(t.Context(), http.MethodPut, "/latest/api/token"); w.Code != http.StatusOK || w.Body.Len() == 0 {
		t.Errorf("with a limit of 2: %d", w.Code)
	}
}

// TestVersion1 reads without tokens.
func TestVersion1(t *testing.T) {
	b := newBox(t)
	for path, want := range map[string]string{
		"/latest/meta-data/instance-id":     b.vm.ID,
		"/2021-03-23/meta-data/instance-id": b.vm.ID,
		"/latest":                           "dynamic/\nmeta-data/",
		"/latest/":                          "dynamic/\nmeta-data/",
		"/latest/dynamic/instance-identity": "document",
	} {
		if status, text := b.send("GET", path); status != 200 || text != want {
			t.Errorf("%s: got %d %q, want %q", path, status, text, want)
		}
	}
	if status, text := b.send("GET", "/"); status != 200 || !strings.HasSuffix(text, "\nlatest") {
		t.Errorf("got %d %q", status, text)
	}
	if status, text := b.send("GET", "/latest/meta-data/"); status != 200 || !strings.Contains(text, "instance-id\n") || !strings.Contains(text, "placement/\n") {
		t.Errorf("got %d %q", status, text)
	}
	if status, text := b.send("HEAD", "/latest/meta-data/instance-id"); status != 200 || text != "" {
		t.Errorf("got %d %q", status, text)
	}
	for _, path := range []string{"/latest/meta-data/nothing", "/latest/user-data", "/1999-01-01/meta-data/instance-id", "/elsewhere"} {
		if status, text := b.send("GET", path); status != 404 || !strings.Contains(text, "<h1>404 - Not Found</h1>") {
			t.Errorf("%s: got %d %q", path, status, text)
		}
	}
}

const (
	tokenPath   = "/latest/api/token"
	tokenHeader = "X-aws-ec2-metadata-token"
	ttlHeader   = "X-aws-ec2-metadata-token-ttl-seconds"
)

func TestTokens(t *testing.T) {
	b := newBox(t)
	status, token := b.send("PUT", tokenPath, ttlHeader, "60")
	if status != 200 || len(token) < 40 {
		t.Fatalf("got %d %q", status, token)
	}
	read := func(token string) int {
		b.Helper()
		status, _ := b.send("GET", "/latest/meta-data/instance-id", tokenHeader, token)
		return status
	}
	_, foreign := newBox(t).send("PUT", tokenPath, ttlHeader, "60")
	for name, test := range map[string]struct {
		token string
		want  int
	}{
		"good":    {token, 200},
		"empty":   {"", 401},
		"odd":     {"!", 401},
		"short":   {"AAAA", 401},
		"changed": {"B" + token[1:], 401},
		"foreign": {foreign, 401},
	} {
		if got := read(test.token); got != test.want {
			t.Errorf("%s: got %d, want %d", name, got, test.want)
		}
	}
	b.clock.Pass(59 * time.Second)
	if got := read(token); got != 200 {
		t.Errorf("before its end: %d", got)
	}
	b.clock.Pass(time.Second)
	if got := read(token); got != 401 {
		t.Errorf("at its end: %d", got)
	}
}

func TestTokenRefusals(t *testing.T) {
	b := newBox(t)
	for _, test := range []struct {
		method, path string
		headers      []string
		want         int
	}{
		{"PUT", tokenPath, []string{ttlHeader, "1"}, 200},
		{"PUT", tokenPath, []string{ttlHeader, "21600"}, 200},
		{"PUT", tokenPath, []string{ttlHeader, "21601"}, 400},
		{"PUT", tokenPath, []string{ttlHeader, "0"}, 400},
		{"PUT", tokenPath, []string{ttlHeader, "long"}, 400},
		{"PUT", tokenPath, nil, 400},
		{"PUT", tokenPath, []string{ttlHeader, "60", "X-Forwarded-For", "10.0.0.1"}, 403},
		{"PUT", "/latest/meta-data/instance-id", []string{ttlHeader, "60"}, 405},
		{"GET", tokenPath, nil, 405},
		{"POST", tokenPath, []string{ttlHeader, "60"}, 405},
		{"DELETE", "/latest/meta-data/instance-id", nil, 405},
	} {
		if got, _ := b.send(test.method, test.path, test.headers...); got != test.want {
			t.Errorf("%s %s %v: got %d, want %d", test.method, test.path, test.headers, got, test.want)
		}
	}
}

// TestActionAndRefuse tests the methods that the server uses.
func TestActionAndRefuse(t *testing.T) {
	b := newBox(t)
	h := imds.New(b.st)
	for path, want := range map[string]string{
		"/latest/meta-data/instance-id":  "meta-data/instance-id",
		"/latest/meta-data/":             "meta-data",
		"/2021-03-23/dynamic":            "dynamic",
		"/latest/api/token":              "api/token",
		"/latest":                        "",
		"/":                              "",
		"/api/v1/ReadVms":                "",
		"/1999-01-01/meta-data/hostname": "",
	} {
		if got := h.Action(wire.New(httptest.NewRequest(http.MethodGet, path, nil), nil)); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	w := httptest.NewRecorder()
	h.Refuse(w, http.StatusServiceUnavailable, "Slow", "<later>")
	if w.Code != 503 || !strings.Contains(w.Body.String(), "<h1>503 - Service Unavailable</h1><p>&lt;later&gt;</p>") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
