package osc

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const (
	me     = "111111111111"
	other  = "222222222222"
	home   = "eu-west-2"
	myKey  = "AKME"
	secret = "a secret"
)

var mine, theirs = state.Caller{Account: me, Region: home}, state.Caller{Account: other, Region: home}

// outscale is loopcloud's Outscale API and metadata on one port, with a fault
// injector before them and a record of the calls.
type outscale struct {
	state    *state.Cloud
	wire     *cloudtest.Wire
	outcomes statetest.Outcomes
	server   *httptest.Server
	source   string // an image of the account's

	mu    sync.Mutex
	calls []string
}

func newOutscale(t *testing.T, timing state.Timing) *outscale {
	t.Helper()
	o := &outscale{}
	st, err := state.Open(state.Config{
		Outcome: o.outcomes.Outcome,
		Dir:     filepath.Join(testdir.New(t), "state"), Disks: statetest.NewDisks(), Timing: timing,
		Accounts: []state.Account{{ID: me}, {ID: other, Alias: "somebody"}},
		Keys:     []state.Key{{ID: myKey, Secret: secret, Account: me}, {ID: "AKOTHER", Secret: secret, Account: other}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	handler := oapi.New(st, sigv4.NewAuthorizer(st))
	o.state, o.wire = st, &cloudtest.Wire{
		Refuse: func(w http.ResponseWriter, _ *http.Request) {
			handler.Refuse(w, http.StatusServiceUnavailable, "6", "Request rate exceeded")
		},
	}
	mux := http.NewServeMux()
	description, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/api/v1/", description.Checked(t, handler))
	mux.HandleFunc("GET /latest/meta-data/instance-id", func(w http.ResponseWriter, _ *http.Request) {
		vm, _ := st.HostVM(home)
		_, _ = w.Write([]byte(vm.ID))
	})
	o.wire.Next = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		o.calls = append(o.calls, handler.Action(wire.New(r, nil)))
		o.mu.Unlock()
		mux.ServeHTTP(w, r)
	})
	o.server = httptest.NewServer(described(t, o.wire))
	t.Cleanup(o.server.Close)
	o.source = o.image(t, mine, "source", state.ImageAttributes{}).ID
	return o
}

// image imports an image for an account, with a second device.
func (o *outscale) image(t *testing.T, owner state.Caller, name string, attributes state.ImageAttributes) state.Image {
	t.Helper()
	attributes.RootDevice = "/dev/sda1"
	img, err := o.state.CreateImage(owner, state.ImageRequest{
		Name: name, IDDigits: 8, Attributes: attributes,
		Mappings: []state.Mapping{
			{Device: "/dev/sda1", Volume: &state.MappedVolume{SnapshotID: o.imported(t, owner), SizeGiB: 4, Type: "gp2", DeleteOnTermination: true}},
			{Device: "/dev/sdb", Volume: &state.MappedVolume{SizeGiB: 2, Type: "standard"}},
			{Device: "/dev/sdc", VirtualName: "ephemeral0"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	available := func(i state.Image) bool { return i.ID == img.ID && i.State == state.ImageAvailable }
	for !slices.ContainsFunc(o.state.Images(owner), available) {
		time.Sleep(time.Millisecond)
	}
	return img
}

// imported is a snapshot that was created from a file.
func (o *outscale) imported(t *testing.T, owner state.Caller) string {
	t.Helper()
	file := filepath.Join(testdir.New(t), "disk.raw")
	if err := os.WriteFile(file, []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := o.state.ImportSnapshot(owner, state.SnapshotImport{File: file, IDDigits: 8})
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}

func (o *outscale) access() Access {
	return Access{AccessKey: myKey, SecretKey: secret, Region: home,
		Endpoint: o.server.URL, MetadataEndpoint: o.server.URL}
}

// cloud is the Cloud under test, without pauses between retries.
func (o *outscale) cloud(t *testing.T, options Config) *Cloud {
	t.Helper()
	client, err := Dial(t.Context(), o.access())
	if err != nil {
		t.Fatal(err)
	}
	client.retry.Clock = new(cloudtest.Clock)
	if options.SourceOMI == "" {
		options.SourceOMI = o.source
	}
	return NewCloud(client, &options, nil)
}

// count returns the number of requests for a call.
func (o *outscale) count(call string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, c := range o.calls {
		if c == call {
			n++
		}
	}
	return n
}

// madeSnapshot makes a completed snapshot of a volume of a build.
func madeSnapshot(t *testing.T, c *Cloud, build bake.BuildID) (bake.VolumeID, bake.SnapshotID) {
	t.Helper()
	volume, err := c.CreateVolume(t.Context(), bake.VolumeSpec{Build: build, Zone: home + "a", SizeGiB: 4})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := c.CreateSnapshot(t.Context(), bake.SnapshotSpec{Build: build, Volume: volume})
	if err != nil {
		t.Fatal(err)
	}
	return volume, snapshot
}

// dropping refuses one call.
func dropping(next http.Handler, suffix string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, suffix) {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		next.ServeHTTP(w, r)
	})
}
