package amazon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

const instance = `<reservationSet><item><instancesSet><item>
	<instanceId>i-0123</instanceId>
	<placement><availabilityZone>eu-west-1a</availabilityZone></placement>
	<blockDeviceMapping>
		<item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-1</volumeId></ebs></item>
		<item><deviceName>/dev/sdf</deviceName></item>
		<item></item>
	</blockDeviceMapping>
</item></instancesSet></item></reservationSet>`

const bareInstance = `<reservationSet><item/><item><instancesSet><item/></instancesSet></item></reservationSet>`

func TestHost(t *testing.T) {
	byDocument := map[string]string{"dynamic/instance-identity/document": document}
	tests := []struct {
		name     string
		metadata map[string]string
		instance string
		want     bake.Host
	}{
		{
			"what EC2 says goes before the metadata", byDocument, instance,
			bake.Host{ID: "i-0123", Region: "eu-west-1", Zone: "eu-west-1a", Taken: []bake.DeviceName{"/dev/xvda", "/dev/sdf"}},
		},
		{
			"an instance without optional fields", byDocument, bareInstance,
			bake.Host{ID: "i-0123", Region: "eu-west-1", Zone: "eu-west-1b"},
		},
		{
			"no identity document",
			map[string]string{"meta-data/instance-id": "i-0123\n", "meta-data/placement/availability-zone": "eu-west-1c"},
			bareInstance,
			bake.Host{ID: "i-0123", Region: "eu-west-1", Zone: "eu-west-1c"},
		},
		{
			"an identity document that says nothing",
			map[string]string{"dynamic/instance-identity/document": "{}", "meta-data/instance-id": "i-0123"},
			instance,
			bake.Host{ID: "i-0123", Region: "eu-west-1", Zone: "eu-west-1a", Taken: []bake.DeviceName{"/dev/xvda", "/dev/sdf"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{metadata: tt.metadata, actions: map[string]action{"DescribeInstances": answer("DescribeInstances", tt.instance)}}
			got, err := faked(t, s, Config{}).Host(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if got.ID != tt.want.ID || got.Region != tt.want.Region || got.Zone != tt.want.Zone || !slices.Equal(got.Taken, tt.want.Taken) {
				t.Errorf("host %+v, want %+v", got, tt.want)
			}
			if asked := s.made("DescribeInstances")[0].Get("InstanceId.1"); asked != "i-0123" {
				t.Errorf("EC2 was asked for %q", asked)
			}
		})
	}
}

// TestHostHasCloudIdentity checks that the identity in EC2's responses becomes Host.Cloud.
func TestHostHasCloudIdentity(t *testing.T) {
	s := &fake{t: t, metadata: map[string]string{"dynamic/instance-identity/document": document},
		actions: map[string]action{"DescribeInstances": answer("DescribeInstances", instance)}}
	alone(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Loopcloud-Id", "CLOUD-1234")
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	host, err := NewCloud(dial(t, access(server.URL)), &Config{}, nil).Host(t.Context())
	if err != nil || host.Cloud != "CLOUD-1234" {
		t.Errorf("%+v, %v", host, err)
	}
}

func TestHostIsUnknown(t *testing.T) {
	here := map[string]string{"dynamic/instance-identity/document": `{"instanceId":"i-0123","region":"us-east-1"}`}
	tests := []struct {
		name     string
		metadata map[string]string
		instance action
		want     []string
	}{
		{"not found", here, refuse("InvalidInstanceID.NotFound"), []string{"i-0123", "us-east-1", "eu-west-1", "check region"}},
		{"no reservation", here, answer("DescribeInstances", "<reservationSet/>"), []string{"i-0123", "unknown in region eu-west-1"}},
		{"no zone", here, answer("DescribeInstances", bareInstance), []string{"i-0123", "zone"}},
		{"not allowed", here, refuse("UnauthorizedOperation"), []string{"cannot read instance i-0123", "do not allow"}},
		{"metadata without an id", map[string]string{}, answer("DescribeInstances", instance), []string{"instance-id", "EC2 instance", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "give instance_id and region"}},
		{"metadata without sense", map[string]string{"dynamic/instance-identity/document": "<html>"}, answer("DescribeInstances", instance),
			[]string{"no metadata service"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{metadata: tt.metadata, actions: map[string]action{"DescribeInstances": tt.instance}}
			_, err := faked(t, s, Config{}).Host(context.Background())
			says(t, err, tt.want...)
		})
	}
}

// TestSilentMetadataService checks that a build does not hang if the metadata address leads to
// a host that accepts connections and never responds.
func TestSilentMetadataService(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	gone.Close()
	for name, test := range map[string]struct {
		set  func()
		says string
	}{
		"silent":       {func() { t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"+silent.Addr().String()) }, "did not answer within 2s"},
		"nobody there": {func() { t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"+closed) }, "AWS_EC2_METADATA_SERVICE_ENDPOINT if it is elsewhere"},
		"disabled":     {func() { t.Setenv("AWS_EC2_METADATA_DISABLED", "true") }, "AWS_EC2_METADATA_DISABLED is true"},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := faked(t, &fake{}, Config{})
			test.set()
			cloud.client = dial(t, cloud.client.access)
			_, err := cloud.Host(context.Background())
			says(t, err, "no metadata service", "instance_id", test.says)
		})
	}
}

func TestNamed(t *testing.T) {
	taken := `<imageId>ami-9</imageId><name>mine</name><imageState>available</imageState>`
	tests := []struct {
		name   string
		images action
		want   []bake.ImageID
	}{
		{"free", images(), nil},
		{"taken", images(taken), []bake.ImageID{"ami-9"}},
		{"taken by a pending one", images(`<imageId>ami-9</imageId><name>mine</name><imageState>pending</imageState>`), []bake.ImageID{"ami-9"}},
		{"was taken", images(`<imageId>ami-9</imageId><name>mine</name><imageState>deregistered</imageState>`), nil},
		{"like another", images(`<imageId>ami-9</imageId><name>mine too</name>`), nil},
		{"like one without a name", images(``), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &fake{actions: map[string]action{"DescribeImages": tt.images}}
			got, err := faked(t, s, Config{}).Named(context.Background(), "mine")
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("found %v, %v; want %v", got, err, tt.want)
			}
			if call := s.made("DescribeImages")[0]; call.Get("Owner.1") != "self" || call.Get("Filter.1.Value.1") != "mine" {
				t.Errorf("asked for %v", call)
			}
		})
	}
}

func TestDeviceNames(t *testing.T) {
	names := (&Cloud{}).DeviceNames()
	if names[0] != "/dev/sdf" || names[10] != "/dev/sdp" {
		t.Errorf("AWS's recommendation does not come first: %v", names)
	}
	for _, reserved := range []bake.DeviceName{"/dev/sda", "/dev/sda1", "/dev/xvda"} {
		if slices.Contains(names, reserved) {
			t.Errorf("%s is the instance's root", reserved)
		}
	}
}

// TestNewResourcesAreNotShownYet checks that a created resource that EC2 has never shown is
// pending for a while. Afterwards, or if it was shown before, it no longer exists.
func TestNewResourcesAreNotShownYet(t *testing.T) {
	ctx := context.Background()
	s := &fake{actions: map[string]action{
		"CreateVolume": answer("CreateVolume", "<volumeId>vol-1</volumeId>"),
		"DescribeVolumes": inTurn(refuse("InvalidVolume.NotFound"), answer("DescribeVolumes", "<volumeSet/>"),
			volumes(`<volumeId>vol-1</volumeId><status>available</status>`), refuse("InvalidVolume.NotFound")),
		"CreateSnapshot":    answer("CreateSnapshot", "<snapshotId>snap-1</snapshotId>"),
		"DescribeSnapshots": refuse("InvalidSnapshot.NotFound"),
		"DeleteSnapshot":    answer("DeleteSnapshot", "<return>true</return>"),
		"RegisterImage":     answer("RegisterImage", "<imageId>ami-1</imageId>"),
		"DescribeImages":    refuse("InvalidAMIID.NotFound"),
	}}
	cloud := faked(t, s, Config{Config: builder.Config{RootDeviceName: "xvda"}})
	now := time.Unix(0, 0)
	cloud.now = func() time.Time { return now }

	volume, err := cloud.CreateVolume(ctx, bake.VolumeSpec{Build: "b"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bake.VolumeState{bake.VolumeCreating, bake.VolumeCreating, bake.VolumeAvailable} {
		if v, err := cloud.Volume(ctx, volume); err != nil || v.State != want || v.ID != volume {
			t.Errorf("volume %+v, %v; want state %s", v, err, want)
		}
	}
	if v, err := cloud.Volume(ctx, volume); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("a volume that was seen, and is no more: %+v, %v", v, err)
	}

	snapshot, err := cloud.CreateSnapshot(ctx, bake.SnapshotSpec{Volume: volume})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cloud.Snapshot(ctx, snapshot); err != nil || got.State != bake.SnapshotPending || got.Percent != -1 {
		t.Errorf("snapshot %+v, %v; want a pending one", got, err)
	}
	if err := cloud.DeleteSnapshot(ctx, snapshot); err != nil {
		t.Fatal(err)
	}
	if got, err := cloud.Snapshot(ctx, snapshot); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("a snapshot that was deleted: %+v, %v", got, err)
	}

	image, err := cloud.Register(ctx, bake.ImageSpec{Name: "new", Snapshot: snapshot})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cloud.Image(ctx, image); err != nil || got.State != bake.ImagePending {
		t.Errorf("image %+v, %v; want a pending one", got, err)
	}
	now = now.Add(visibleWithin)
	if got, err := cloud.Image(ctx, image); !errors.Is(err, bake.ErrNotFound) {
		t.Errorf("an image that did not come: %+v, %v", got, err)
	}
}

func TestUnknownResources(t *testing.T) {
	ctx := context.Background()
	s := &fake{actions: map[string]action{
		"DescribeVolumes":   refuseWith(http.StatusBadRequest, "InvalidVolume.NotFound"),
		"DescribeSnapshots": answer("DescribeSnapshots", "<snapshotSet/>"),
		"DescribeImages":    refuseWith(http.StatusBadRequest, "InvalidAMIID.Unavailable"),
	}}
	cloud := faked(t, s, Config{})
	_, volume := cloud.Volume(ctx, "vol-1")
	_, snapshot := cloud.Snapshot(ctx, "snap-1")
	_, image := cloud.Image(ctx, "ami-1")
	for id, err := range map[string]error{"vol-1": volume, "snap-1": snapshot, "ami-1": image} {
		if !errors.Is(err, bake.ErrNotFound) {
			t.Errorf("%s: %v, want %v", id, err, bake.ErrNotFound)
		}
		says(t, err, id)
	}
}
