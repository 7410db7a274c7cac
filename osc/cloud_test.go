package osc

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestHost(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Config{})
	host, err := c.Host(t.Context())
	vm, _ := o.state.HostVM(home)
	want := bake.Host{ID: bake.HostID(vm.ID), Region: home, Account: me, Zone: home + "a", Taken: []bake.DeviceName{"/dev/sda1", "/dev/xvda1"}}
	if err != nil || !reflect.DeepEqual(host, want) {
		t.Errorf("%+v, %v; want %+v", host, err, want)
	}

	telling := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Loopcloud-Id", "CLOUD-1234")
		o.wire.ServeHTTP(w, r)
	}))
	t.Cleanup(telling.Close)
	there := o.access()
	there.Endpoint = strings.Replace(there.Endpoint, o.server.URL, telling.URL, 1)
	told, err := Dial(t.Context(), there)
	if err != nil {
		t.Fatal(err)
	}
	if host, err := NewCloud(told, &Config{}, nil).Host(t.Context()); err != nil || host.Cloud != "CLOUD-1234" {
		t.Errorf("%+v, %v", host, err)
	}

	access := o.access()
	access.AccessKey = "AKOTHER"
	client, err := Dial(t.Context(), access)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewCloud(client, &Config{}, nil).Host(t.Context())
	if !errors.Is(err, bake.ErrNotFound) || !strings.Contains(err.Error(), "are the keys those of the VM's account") {
		t.Errorf("with the keys of another account: %v", err)
	}
}

func TestDeviceNames(t *testing.T) {
	names := new(Cloud).DeviceNames()
	if names[0] != "/dev/xvdb" || names[24] != "/dev/xvdz" || names[25] != "/dev/xvdba" || len(names) != 51 {
		t.Errorf("%v", names)
	}
	for _, n := range names {
		if !dataDevice.MatchString(string(n)) {
			t.Errorf("the API does not take %s", n)
		}
	}
}

// TestUntaggedVolume checks that a build that is killed between creating a volume and tagging
// it finds the volume again.
func TestUntaggedVolume(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Config{})
	c.client.retry.Attempts = 1
	o.wire.Next = dropping(o.wire.Next, "/CreateTags")
	id, err := c.CreateVolume(t.Context(), bake.VolumeSpec{Build: "b1", Zone: home + "a", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	if v, err := c.Volume(t.Context(), id); err != nil || v.Build != "b1" {
		t.Errorf("volume %+v, %v", v, err)
	}
	if err := c.Tag(t.Context(), string(id), map[string]string{bake.BuildTag: "b1"}); err == nil {
		t.Fatal("the tags were refused, and nobody says so")
	}
	found, err := o.cloud(t, Config{}).FindVolumes(t.Context(), "b1") // as another process would
	if err != nil || len(found) != 1 {
		t.Errorf("found %v, %v", found, err)
	}
	if other, err := c.FindVolumes(t.Context(), "b2"); err != nil || len(other) != 0 {
		t.Errorf("found for another build: %v, %v", other, err)
	}
}

// TestHiddenClientTokens checks that if the cloud does not show client tokens, volumes are
// searched by token.
func TestHiddenClientTokens(t *testing.T) {
	o := newOutscale(t, state.Instant())
	shown := regexp.MustCompile(`,?"ClientToken":"[^"]*"`)
	l := &cloudtest.Falsifier{Next: o.wire.Next, Change: func(_ *http.Request, _, answer []byte) []byte { return shown.ReplaceAll(answer, nil) }}
	o.wire.Next = l
	c := o.cloud(t, Config{})
	own, err := c.CreateVolume(t.Context(), bake.VolumeSpec{Build: "b1", Zone: home + "a", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := o.cloud(t, Config{}).CreateVolume(t.Context(), bake.VolumeSpec{Build: "b2", Zone: home + "a", SizeGiB: 1})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[bake.VolumeID]bake.BuildID{own: "b1", theirs: ""} {
		if v, err := c.Volume(t.Context(), id); err != nil || v.Build != want {
			t.Errorf("volume %+v of build %q, %v", v, want, err)
		}
	}
}

func TestValidate(t *testing.T) {
	ok := BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 1}}
	mapped := func(m ...BlockDevice) Config { return Config{ImageConfig: ImageConfig{OMIBlockDeviceMappings: m}} }
	tests := map[string]struct {
		options Config
		err     string
	}{
		"nothing":              {Config{}, ""},
		"much":                 {Config{Config: builder.Config{RootDeviceName: "xvda"}, ImageConfig: ImageConfig{OMIVirtualizationType: "hvm", OMIBlockDeviceMappings: []BlockDevice{ok, {BlockDevice: builder.BlockDevice{DeviceName: "xvdzz", SnapshotID: "snap-12345678", VolumeType: "gp2"}}}}}, ""},
		"no device":            {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", NoDevice: true}}), ""},
		"ephemeral":            {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VirtualName: "ephemeral0"}}), ""},
		"paravirtual":          {Config{ImageConfig: ImageConfig{OMIVirtualizationType: "paravirtual"}}, "Outscale has hvm only"},
		"other virtualization": {Config{ImageConfig: ImageConfig{OMIVirtualizationType: "xen"}}, `"xen"`},
		"root name":            {Config{Config: builder.Config{RootDeviceName: "nvme0n1"}}, `root_device_name is "nvme0n1"`},
		"device name":          {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/nvme0n1", VolumeSize: 1}}), "/dev/nvme0n1"},
		"no device name":       {mapped(BlockDevice{BlockDevice: builder.BlockDevice{VolumeSize: 1}}), "omi_block_device_mappings[0]: device_name is required"},
		"no size":              {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb"}}), "volume_size or snapshot_id"},
		"snapshot":             {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", SnapshotID: "foo"}}), `snapshot_id of device /dev/sdb is "foo"`},
		"virtual name":         {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VirtualName: "disk"}}), `virtual_name "disk"`},
		"type":                 {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 1, VolumeType: "gp3"}}), `volume_type is "gp3"`},
		"size":                 {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 14902}}), "volume_size is 14902"},
		"negative size":        {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: -1}}), "volume_size is -1"},
		"iops without io1":     {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 1, IOPS: 100}}), "not io1"},
		"io1 without iops":     {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 1, VolumeType: "io1"}}), "iops is required for device /dev/sdb"},
		"iops":                 {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 1000, VolumeType: "io1", IOPS: 13001}}), "iops is 13001"},
		"iops for each":        {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdb", VolumeSize: 1, VolumeType: "io1", IOPS: 301}}), "300 for each"},
		"twice":                {mapped(ok, BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvdb", VolumeSize: 2}}), "omi_block_device_mappings[1]: device xvdb is there twice"},
		"root twice":           {Config{Config: builder.Config{RootDeviceName: "xvdf"}, ImageConfig: ImageConfig{OMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1"}}, {BlockDevice: builder.BlockDevice{DeviceName: "xvdf"}}}}}, "twice"},
		"root without device":  {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvda", NoDevice: true}}), "no_device"},
		"root of a snapshot":   {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvda", SnapshotID: "snap-1"}}), "snapshot_id"},
		"root ephemeral":       {mapped(BlockDevice{BlockDevice: builder.BlockDevice{DeviceName: "xvda", VirtualName: "ephemeral0"}}), "virtual_name"},
		"boot mode":            {Config{ImageConfig: ImageConfig{OMIBootModes: []string{"uefi", "bios"}}}, `omi_boot_modes[1] is "bios"`},
		"boot modes":           {Config{ImageConfig: ImageConfig{OMIBootModes: []string{"uefi", "legacy"}}}, ""},
		"product code":         {Config{ImageConfig: ImageConfig{ProductCodes: []string{""}}}, "product_codes has an empty code"},
		"account":              {Config{PublishConfig: PublishConfig{OMIAccountIDs: []string{me, "somebody"}}}, `omi_account_ids[1] is "somebody"`},
		"root by two names":    {Config{Config: builder.Config{RootDeviceName: "xvdf"}, ImageConfig: ImageConfig{OMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "xvdf"}}, {BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf"}}}}}, "twice"},
		"filter":               {Config{SourceConfig: SourceConfig{SourceOMIFilter: SourceFilterConfig{Filters: map[string]string{"x": "y"}, Owners: []string{"self"}}}}, `filters has "x"`},
		"no owners":            {Config{SourceConfig: SourceConfig{SourceOMIFilter: SourceFilterConfig{Filters: map[string]string{"image-name": "y"}}}}, "owners is required"},
		"empty owner":          {Config{SourceConfig: SourceConfig{SourceOMIFilter: SourceFilterConfig{Filters: map[string]string{"image-name": "y"}, Owners: []string{""}}}}, "owners[0] is empty"},
		"no filters":           {Config{SourceConfig: SourceConfig{SourceOMIFilter: SourceFilterConfig{Owners: []string{"self"}}}}, "filters is required"},
		"all at once":          {Config{Config: builder.Config{RootDeviceName: "x y"}, ImageConfig: ImageConfig{OMIVirtualizationType: "xen"}}, `"x y"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := errors.Join(test.options.checkRequest()...)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("the error is %v, want %q", err, test.err)
			}
		})
	}
}

// TestSparseResponses checks that a missing field in a response is an error, or a zero value,
// and never a panic.
func TestSparseResponses(t *testing.T) {
	empty := []reply{{200, `{}`}}
	s := newFake(t, map[string][]reply{
		"ReadVms": empty, "ReadImages": empty, "ReadVolumes": empty, "ReadSnapshots": empty,
		"CreateVolume": empty, "CreateSnapshot": empty, "CreateImage": empty,
		"instance-id": {{200, "i-12345678"}},
	})
	c := s.cloud(Config{SourceConfig: SourceConfig{SourceOMI: "ami-12345678"}})
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"Host":           func() error { _, err := c.Host(ctx); return err },
		"Source":         func() error { _, err := c.Source(ctx); return err },
		"CreateVolume":   func() error { _, err := c.CreateVolume(ctx, bake.VolumeSpec{}); return err },
		"Volume":         func() error { _, err := c.Volume(ctx, "vol-12345678"); return err },
		"CreateSnapshot": func() error { _, err := c.CreateSnapshot(ctx, bake.SnapshotSpec{}); return err },
		"Snapshot":       func() error { _, err := c.Snapshot(ctx, "snap-12345678"); return err },
		"Register":       func() error { _, err := c.Register(ctx, bake.ImageSpec{}); return err },
		"Image":          func() error { _, err := c.Image(ctx, "ami-12345678"); return err },
	} {
		if call() == nil {
			t.Errorf("%s takes nothing for an answer", name)
		}
	}
	bare := newFake(t, map[string][]reply{
		"ReadVms":       {{200, `{"Vms":[{"VmId":"i-12345678"}]}`}},
		"ReadImages":    {{200, `{"Images":[{"ImageId":"ami-12345678"},{}]}`}},
		"ReadVolumes":   {{200, `{"Volumes":[{"VolumeId":"vol-12345678"},{}]}`}},
		"ReadSnapshots": {{200, `{"Snapshots":[{"SnapshotId":"snap-12345678"},{}]}`}},
		"instance-id":   {{200, "i-12345678"}},
	}).cloud(Config{})
	if host, err := bare.Host(ctx); err != nil || host.Zone != "" {
		t.Errorf("%+v, %v", host, err)
	}
	if v, err := bare.Volume(ctx, "vol-12345678"); err != nil || v.Attach != bake.Detached {
		t.Errorf("%+v, %v", v, err)
	}
	if snap, err := bare.Snapshot(ctx, "snap-12345678"); err != nil || snap.Percent != -1 || snap.State != "" {
		t.Errorf("%+v, %v", snap, err)
	}
	if img, err := bare.Image(ctx, "ami-12345678"); err != nil || img.Root.Snapshot != "" || img.Created != "" {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestSnapshotStates checks the API's names of the states of a snapshot.
func TestSnapshotStates(t *testing.T) {
	for word, want := range map[string]bake.SnapshotState{
		"in-queue": bake.SnapshotPending, "pending": bake.SnapshotPending, "pending/queued": "pending/queued",
		"completed": bake.SnapshotCompleted, "error": bake.SnapshotError, "deleting": bake.SnapshotError,
	} {
		s := newFake(t, map[string][]reply{"ReadSnapshots": {{200, `{"Snapshots":[{"SnapshotId":"snap-12345678","Progress":7,"State":"` + word + `"}]}`}}})
		got, err := s.cloud(Config{}).Snapshot(t.Context(), "snap-12345678")
		if err != nil || got.State != want || got.Percent != 7 {
			t.Errorf("%s: %+v, %v", word, got, err)
		}
	}
}

// TestClientTokensOfBuilds checks that another process can derive a build's client tokens.
// They differ from those of any other build, and are short enough for the API.
func TestClientTokensOfBuilds(t *testing.T) {
	c := NewCloud(nil, &Config{}, nil)
	first, second := c.clientToken("b", tokenVolume, "x"), c.clientToken("b", tokenVolume, "y")
	if first == second || first != c.clientToken("b", tokenVolume, "x") || first != NewCloud(nil, &Config{}, nil).clientToken("b", tokenVolume, "else") {
		t.Errorf("the tokens are %s and %s", first, second)
	}
	all := append(buildTokens("b", tokenVolume), buildTokens("c", tokenVolume)...)
	all = append(all, buildTokens("b", tokenSnapshot)...)
	seen := map[string]bool{}
	for _, token := range all {
		if seen[token] || len(token) > 64 {
			t.Errorf("the token %q is there twice, or has more than 64 characters", token)
		}
		seen[token] = true
	}
	if !seen[first] || !seen[second] {
		t.Errorf("%s and %s are not among %v", first, second, all)
	}
}
