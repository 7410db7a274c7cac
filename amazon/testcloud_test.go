package amazon

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/ec2"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/imds"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/kms"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/sigv4"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state/statetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// account is the account of the tests' keys, and its region.
var account = state.Caller{Account: state.DefaultAccount, Region: "eu-west-1"}

// testCloud is a loopcloud with a source image, behind a wire that can be broken.
type testCloud struct {
	state    *state.Cloud
	wire     *cloudtest.Wire
	outcomes statetest.Outcomes
	url      string
	source   string // the id of an image with two disks
}

func newTestCloud(t *testing.T, timing state.Timing) *testCloud {
	t.Helper()
	alone(t)
	cfg := state.Config{
		Dir: testdir.New(t), Disks: statetest.NewDisks(), DefaultRegion: account.Region,
		Keys: []state.Key{{ID: "AKIATEST", Secret: "not-to-be-printed"}},
	}
	source := makeSource(t, cfg)
	tc := &testCloud{source: source}
	cfg.Timing, cfg.Outcome = timing, tc.outcomes.Outcome
	tc.state = open(t, cfg)
	t.Cleanup(func() { closed(t, tc.state) })

	tc.wire = wireTo(tc.state)
	server := httptest.NewServer(modelled(t, tc.wire))
	t.Cleanup(server.Close)
	tc.url = server.URL
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", tc.url)
	return tc
}

func open(t *testing.T, cfg state.Config) *state.Cloud {
	t.Helper()
	st, err := state.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func closed(t *testing.T, st *state.Cloud) {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Errorf("the cloud was left with %v", err)
	}
}

// wireTo is EC2 and the metadata service of a cloud.
func wireTo(st *state.Cloud) *cloudtest.Wire {
	handler, keys := ec2.New(st, sigv4.NewAuthorizer(st)), kms.New(sigv4.NewAuthorizer(st))
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
		if kms.Asked(r) {
			keys.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
	mux.Handle("/latest/", imds.New(st))
	return &cloudtest.Wire{Next: mux, Refuse: func(rw http.ResponseWriter, _ *http.Request) {
		handler.Refuse(rw, http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")
	}}
}

// makeSource makes an image of two disks with every attribute that is inherited.
func makeSource(t *testing.T, cfg state.Config) string {
	t.Helper()
	st := open(t, cfg)
	defer closed(t, st)
	root, data := blankSnapshot(t, st), blankSnapshot(t, st)
	image, err := st.CreateImage(account, state.ImageRequest{
		Name: "base", IDDigits: 17,
		Attributes: state.ImageAttributes{
			Architecture: "x86_64", Virtualization: "hvm", RootDevice: "/dev/xvda", BootMode: "uefi",
			TPM: "v2.0", IMDS: "v2.0", UEFIData: "QU1aTlVFRkk=", ENA: true, SRIOV: "simple",
		},
		Mappings: []state.Mapping{
			{Device: "/dev/xvda", Volume: &state.MappedVolume{
				SnapshotID: root, SizeGiB: 8, Type: "gp3", IOPS: 3500, Throughput: 200, DeleteOnTermination: true,
			}},
			{Device: "/dev/sdf", Volume: &state.MappedVolume{SnapshotID: data, SizeGiB: 1, Type: "gp2"}},
			{Device: "/dev/sdb", VirtualName: "ephemeral0"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return image.ID
}

func blankSnapshot(t *testing.T, st *state.Cloud) string {
	t.Helper()
	volume, err := st.CreateVolume(account, state.VolumeRequest{Zone: "eu-west-1a", SizeGiB: 1, Type: "gp2", IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := st.CreateSnapshot(account, state.SnapshotRequest{VolumeID: volume.ID, IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	if err := st.DeleteVolume(account, volume.ID, false); err != nil {
		t.Fatal(err)
	}
	return snapshot.ID
}

// cloud makes a Cloud for one build.
func (tc *testCloud) cloud(t *testing.T, opts Config) *Cloud {
	t.Helper()
	return NewCloud(dial(t, access(tc.url)), &opts, t.Logf)
}

// build builds an image the way bake does, in one call.
func build(t *testing.T, cloud *Cloud, volume bake.VolumeSpec, source *bake.Image) bake.ImageID {
	t.Helper()
	ctx := context.Background()
	host, err := cloud.Host(ctx)
	if err != nil {
		t.Fatal(err)
	}
	volume.Build, volume.Zone = "b", host.Zone
	id, err := cloud.CreateVolume(ctx, volume)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := cloud.CreateSnapshot(ctx, bake.SnapshotSpec{Volume: id})
	if err != nil {
		t.Fatal(err)
	}
	image, err := cloud.Register(ctx, bake.ImageSpec{
		Name: "built", Snapshot: snapshot, Source: source, SizeGiB: volume.SizeGiB, VolumeType: volume.Type, Details: volume.Details,
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// find reads an image from the state, without translation.
func (tc *testCloud) find(t *testing.T, id bake.ImageID) state.Image {
	t.Helper()
	for _, image := range tc.state.Images(account) {
		if image.ID == string(id) {
			return image
		}
	}
	t.Fatalf("no image %s", id)
	return state.Image{}
}

func TestImageInheritsFromItsSource(t *testing.T) {
	tc := newTestCloud(t, state.Instant())
	cloud := tc.cloud(t, Config{SourceConfig: SourceConfig{SourceAMI: tc.source}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", NoDevice: true}}}}})
	source, err := cloud.Source(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	built := tc.find(t, build(t, cloud, bake.VolumeSpec{Snapshot: source.Root.Snapshot, SizeGiB: 9, Type: source.Root.Type}, &source))
	base := tc.find(t, bake.ImageID(tc.source))
	if got, want := fmt.Sprint(built.ImageAttributes), fmt.Sprint(base.ImageAttributes); got != want {
		t.Errorf("attributes %s, want the source's %s", got, want)
	}
	if n := len(built.Mappings); n != 3 {
		t.Fatalf("%d block devices, want 3: %+v", n, built.Mappings)
	}
	root, data, none := built.Mappings[0], built.Mappings[1], built.Mappings[2]
	if v := root.Volume; v == nil || v.SizeGiB != 9 || v.Type != "gp3" || v.IOPS != 3500 || v.Throughput != 200 || !v.DeleteOnTermination {
		t.Errorf("root %+v", root.Volume)
	}
	if v := data.Volume; v == nil || *v != *base.Mappings[1].Volume {
		t.Errorf("data %+v, want %+v", data.Volume, base.Mappings[1].Volume)
	}
	if !none.NoDevice || none.Device != "/dev/sdb" {
		t.Errorf("suppressed device %+v", none)
	}
}

func TestImageFromScratch(t *testing.T) {
	tc := newTestCloud(t, state.Instant())
	cloud := tc.cloud(t, Config{
		Config:       builder.Config{FromScratch: true, RootDeviceName: "xvda"},
		ImageConfig:  ImageConfig{AMIVirtualizationType: "hvm"},
		VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "xvda", VolumeType: "gp2"}, DeleteOnTermination: true, Encrypted: true}}},
	})
	plan, err := cloud.Publication(t.Context(), bake.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	built := tc.find(t, build(t, cloud, bake.VolumeSpec{SizeGiB: 15, Type: "gp2", Encryption: plan.Root, Details: plan.Details}, nil))
	if built.RootDevice != "xvda" || built.Virtualization != "hvm" || built.Architecture != string(hostArchitecture()) {
		t.Errorf("image %+v", built)
	}
	if len(built.Mappings) != 1 {
		t.Fatalf("block devices %+v", built.Mappings)
	}
	if v := built.Mappings[0].Volume; v.SizeGiB != 15 || v.Type != "gp2" || !v.DeleteOnTermination {
		t.Errorf("root %+v", v)
	}
	for _, s := range tc.state.Snapshots(account) {
		if s.ID == built.Mappings[0].Volume.SnapshotID && !s.Encrypted {
			t.Errorf("the root's snapshot %s is not encrypted", s.ID)
		}
	}
}

// TestDestroyRemovesOnlyItsImage destroys the image of a build, and a copy of it in another region.
func TestDestroyRemovesOnlyItsImage(t *testing.T) {
	tc := newTestCloud(t, state.Instant())
	before := len(tc.state.Snapshots(account))
	t.Setenv("AWS_ENDPOINT_URL", tc.url)
	cloud := NewCloud(dial(t, access("")), &Config{SourceConfig: SourceConfig{SourceAMI: tc.source}}, nil)
	source, err := cloud.Source(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	id := build(t, cloud, bake.VolumeSpec{Snapshot: source.Root.Snapshot, SizeGiB: 8}, &source)
	there := state.Caller{Account: account.Account, Region: "us-east-1"}
	copied, err := tc.state.CopyImage(there, state.ImageCopyRequest{SourceID: string(id), SourceRegion: account.Region, Name: "copy", IDDigits: 17})
	if err != nil {
		t.Fatal(err)
	}
	made := read(t, cloud, id)
	elsewhere := read(t, cloud.In(there.Region), bake.ImageID(copied.ID))
	for range 2 {
		for _, p := range []bake.Product{
			{Region: account.Region, Image: id, Snapshots: []bake.SnapshotID{made.Root.Snapshot}},
			{Region: there.Region, Image: elsewhere.ID, Snapshots: elsewhere.Snapshots},
		} {
			if err := bake.Destroy(context.Background(), cloud, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if images, snapshots := len(tc.state.Images(account)), len(tc.state.Snapshots(account)); images != 1 || snapshots != before {
		t.Errorf("%d images and %d snapshots are left, want 1 and %d", images, snapshots, before)
	}
	if images, snapshots := tc.state.Images(there), tc.state.Snapshots(there); len(images)+len(snapshots) != 0 {
		t.Errorf("left elsewhere are %v and %v", images, snapshots)
	}
}

func read(t *testing.T, cloud bake.Cloud, id bake.ImageID) bake.Image {
	t.Helper()
	img, err := cloud.Image(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestWrongSecretKey(t *testing.T) {
	tc := newTestCloud(t, state.Instant())
	a := access(tc.url)
	a.SecretKey = "another"
	err := look(context.Background(), NewCloud(dial(t, a), &Config{}, nil))
	says(t, err, "AuthFailure", "AKIATEST", "check access_key and secret_key")
}
