package osc

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestHost(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Options{})
	host, err := c.Host(t.Context())
	vm, _ := o.state.HostVM(home)
	want := bake.Host{ID: bake.HostID(vm.ID), Region: home, Zone: home + "a", Taken: []bake.DeviceName{"/dev/sda1", "/dev/xvda1"}}
	if err != nil || !reflect.DeepEqual(host, want) {
		t.Errorf("%+v, %v; want %+v", host, err, want)
	}

	access := o.access()
	access.AccessKey = "AKOTHER"
	client, err := Dial(t.Context(), access)
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewCloud(Options{Client: client}).Host(t.Context())
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

func TestSource(t *testing.T) {
	o := newOutscale(t, state.Instant())
	shared := o.image(t, theirs, "shared", state.ImageAttributes{})
	everyone := state.PermissionChange{Add: state.Permissions{Public: true}}
	if _, err := o.state.ShareImage(theirs, shared.ID, everyone, false); err != nil {
		t.Fatal(err)
	}
	open := o.image(t, theirs, "open", state.ImageAttributes{})
	if _, err := o.state.ShareImage(theirs, open.ID, everyone, false); err != nil {
		t.Fatal(err)
	}
	if _, err := o.state.ShareSnapshot(theirs, open.Mappings[0].Volume.SnapshotID, everyone, false); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		options Options
		err     string
	}{
		"own":            {Options{}, ""},
		"own, hvm":       {Options{VirtualizationType: "hvm"}, ""},
		"open":           {Options{SourceOMI: open.ID}, ""},
		"snapshot kept":  {Options{SourceOMI: shared.ID}, "does not share its snapshot"},
		"none":           {Options{SourceOMI: "ami-00000000"}, "source_omi ami-00000000 is no image in region " + home},
		"malformed":      {Options{SourceOMI: "debian"}, "4104"},
		"virtualization": {Options{VirtualizationType: "paravirtual"}, "omi_virtualization_type is paravirtual"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			img, err := o.cloud(t, test.options).Source(t.Context())
			switch {
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("the error is %v, not about %q", err, test.err)
			case test.err == "" && (err != nil || img.Root.SizeGiB != 4 || img.Root.Type != "gp2" || img.Virtualization != "hvm" || img.Created == ""):
				t.Errorf("%+v, %v", img, err)
			}
		})
	}
}

func TestSourceThatCannotBe(t *testing.T) {
	image := func(fields string) reply {
		return reply{200, `{"Images":[{"ImageId":"ami-12345678","AccountId":"` + me + `","RootDeviceName":"/dev/sda1",` + fields + `}]}`}
	}
	for fields, want := range map[string]string{
		`"State":"pending"`:   "it is pending",
		`"State":"available"`: "has no snapshot",
		`"State":"available","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","VirtualDeviceName":"ephemeral0"}]`:    "has no snapshot",
		`"State":"available","BlockDeviceMappings":[{"DeviceName":"/dev/sdb","Bsu":{"SnapshotId":"snap-12345678"}}]`: "has no snapshot",
	} {
		s := newFake(t, map[string][]reply{"ReadImages": {image(fields)}})
		_, err := s.cloud(Options{SourceOMI: "ami-12345678"}).Source(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", fields, err, want)
		}
	}
}

func TestSourceOfTwoMatches(t *testing.T) {
	const one = `{"ImageId":"ami-12345678","AccountId":"` + me + `","State":"available"}`
	s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[` + one + `,` + one + `]}`}}})
	_, err := s.cloud(Options{SourceOMI: "ami-12345678"}).Source(t.Context())
	if want := "source_omi: 2 images answer to the id ami-12345678, not one"; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
}

func TestCheckName(t *testing.T) {
	o := newOutscale(t, state.Instant())
	o.image(t, theirs, "theirs", state.ImageAttributes{})
	c := o.cloud(t, Options{})
	for _, name := range []string{"free", "theirs", "sourc", "source2"} {
		if err := c.CheckName(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.CheckName(t.Context(), "source"); err == nil || !strings.Contains(err.Error(), o.source) {
		t.Errorf("source: %v", err)
	}
}

// TestUntaggedVolume: a build that is killed between creating a volume and
// tagging it finds the volume again.
func TestUntaggedVolume(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Options{})
	c.client.retry.tries = 1
	o.wire.Next = dropping(o.wire.Next, "/CreateTags")
	if _, err := c.CreateVolume(t.Context(), bake.VolumeSpec{Build: "b1", Zone: home + "a", SizeGiB: 1}); err == nil {
		t.Fatal("the tags were refused, and nobody says so")
	}
	found, err := c.FindVolumes(t.Context(), "b1")
	if err != nil || len(found) != 1 {
		t.Errorf("found %v, %v", found, err)
	}
	if other, err := c.FindVolumes(t.Context(), "b2"); err != nil || len(other) != 0 {
		t.Errorf("found for another build: %v, %v", other, err)
	}
}

// TestRegisterLooksFirst: when the answer of CreateImage is lost, the image is
// found and not made again; when nothing is lost, nothing is looked for.
func TestRegisterLooksFirst(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Options{})
	_, snapshot := snapshotOf(t, c, "b")
	before := o.count("ReadImages")
	plain := bake.ImageSpec{Build: "b", Name: "plain", Snapshot: snapshot, SizeGiB: 4}
	if _, err := c.Register(t.Context(), plain); err != nil || o.count("ReadImages") != before {
		t.Errorf("%v, and %d ReadImages", err, o.count("ReadImages")-before)
	}
	o.wire.Fail(cloudtest.Lost)
	spec := bake.ImageSpec{Build: "b", Name: "lost", Snapshot: snapshot, SizeGiB: 4}
	id, err := c.Register(t.Context(), spec)
	if err != nil || id == "" || o.count("CreateImage") != 2 {
		t.Errorf("%s, %v after %d CreateImage", id, err, o.count("CreateImage"))
	}
}

// TestRegister: what an image says of its block devices, and what it inherits.
func TestRegister(t *testing.T) {
	tests := map[string]struct {
		options Options
		spec    bake.ImageSpec
		scratch bool
		want    []string // device snapshot size type iops delete
		log     string
	}{
		"as the source": {
			spec: bake.ImageSpec{SizeGiB: 4, VolumeType: "gp2"},
			want: []string{"/dev/sda1 build 4 gp2 0 true", "/dev/sdb - 2 standard 0 false", "/dev/sdc ephemeral0"},
		},
		"another size and type": {
			spec: bake.ImageSpec{SizeGiB: 6, VolumeType: "standard"},
			want: []string{"/dev/sda1 build 6 standard 0 true", "/dev/sdb - 2 standard 0 false", "/dev/sdc ephemeral0"},
		},
		"mappings over the source's": {
			options: Options{Mappings: []Mapping{
				{DeviceName: "/dev/xvdb", VolumeSizeGiB: 9, VolumeType: "io1", IOPS: 300, DeleteOnVMDeletion: true},
				{DeviceName: "/dev/sdc", NoDevice: true},
				{DeviceName: "xvdd", VirtualName: "ephemeral1"},
				{DeviceName: "/dev/sda1", VolumeSizeGiB: 8, VolumeType: "io1", IOPS: 200},
			}},
			spec: bake.ImageSpec{SizeGiB: 4, VolumeType: "gp2"},
			want: []string{"/dev/sda1 build 8 io1 200 false", "/dev/xvdb - 9 io1 300 true", "/dev/xvdd ephemeral1"},
		},
		"a root smaller than its volume": {
			options: Options{Mappings: []Mapping{{DeviceName: "/dev/sda1", VolumeSizeGiB: 1, DeleteOnVMDeletion: true}}},
			spec:    bake.ImageSpec{SizeGiB: 4, VolumeType: "gp2"},
			want:    []string{"/dev/sda1 build 4 gp2 0 true", "/dev/sdb - 2 standard 0 false", "/dev/sdc ephemeral0"},
		},
		"from scratch, as the reference's example": {
			options: Options{FromScratch: true, RootDeviceName: "xvdf", VirtualizationType: "hvm",
				Mappings: []Mapping{{DeviceName: "xvdf", DeleteOnVMDeletion: true, VolumeType: "gp2"}}},
			spec: bake.ImageSpec{SizeGiB: 15, VolumeType: "gp2"}, scratch: true,
			want: []string{"/dev/sda1 build 15 gp2 0 true"},
			log:  "root_device_name xvdf",
		},
		"from scratch without mappings": {
			options: Options{FromScratch: true, RootDeviceName: "xvda"},
			spec:    bake.ImageSpec{SizeGiB: 5}, scratch: true,
			want: []string{"/dev/sda1 build 5 standard 0 true"},
			log:  "root_device_name xvda",
		},
		"from scratch with another device": {
			options: Options{FromScratch: true, RootDeviceName: "/dev/sda1", Mappings: []Mapping{{DeviceName: "sdh", VolumeSizeGiB: 3}}},
			spec:    bake.ImageSpec{SizeGiB: 5}, scratch: true,
			want: []string{"/dev/sda1 build 5 standard 0 true", "/dev/sdh - 3 standard 0 false"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			var logged []string
			test.options.Log = func(format string, args ...any) { logged = append(logged, fmt.Sprintf(format, args...)) }
			if err := test.options.Validate(); err != nil {
				t.Fatal(err)
			}
			c := o.cloud(t, test.options)
			_, snapshot := snapshotOf(t, c, "b")
			spec := test.spec
			spec.Build, spec.Name, spec.Snapshot = "b", "an image", snapshot
			if !test.scratch {
				source, err := c.Source(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				spec.Source = &source
			}
			id, err := c.Register(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := o.devices(t, id, snapshot); !slices.Equal(got, test.want) {
				t.Errorf("devices %q\nwant %q", got, test.want)
			}
			if all := strings.Join(logged, "\n"); (test.log == "") != (all == "") || !strings.Contains(all, test.log) {
				t.Errorf("logged %q, want %q", all, test.log)
			}
		})
	}
}

// devices writes an image's mappings as the tests do.
func (o *outscale) devices(t *testing.T, id bake.ImageID, snapshot bake.SnapshotID) []string {
	t.Helper()
	img := o.find(t, string(id))
	var out []string
	for _, m := range img.Mappings {
		v := m.Volume
		if v == nil {
			out = append(out, m.Device+" "+m.VirtualName)
			continue
		}
		of := "-"
		if v.SnapshotID == string(snapshot) {
			of = "build"
		} else if v.SnapshotID != "" {
			of = v.SnapshotID
		}
		out = append(out, fmt.Sprintf("%s %s %d %s %d %t", m.Device, of, v.SizeGiB, v.Type, v.IOPS, v.DeleteOnTermination))
	}
	return out
}

func (o *outscale) find(t *testing.T, id string) state.Image {
	t.Helper()
	for _, i := range o.state.Images(mine) {
		if i.ID == id {
			return i
		}
	}
	t.Fatalf("there is no image %s", id)
	panic("unreachable")
}

// TestInheritance: an image that can only be started as its source is says so,
// whether or not the source was read by the same Cloud before.
func TestInheritance(t *testing.T) {
	for _, reads := range []bool{true, false} {
		o := newOutscale(t, state.Instant())
		source := o.image(t, mine, "uefi only", state.ImageAttributes{
			Architecture: "i386", BootModes: []string{"uefi"}, TPMMandatory: true, ProductCodes: []string{"0002"}})
		c := o.cloud(t, Options{SourceOMI: source.ID})
		_, snapshot := snapshotOf(t, c, "b")
		from := bake.Image{ID: bake.ImageID(source.ID)}
		if reads {
			var err error
			if from, err = c.Source(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		id, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "child", Snapshot: snapshot, SizeGiB: 4, Source: &from, Description: "made", Tags: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		got := o.find(t, string(id))
		if got.Architecture != "i386" || !slices.Equal(got.BootModes, []string{"uefi"}) || !got.TPMMandatory ||
			!slices.Equal(got.ProductCodes, []string{"0002"}) || got.Description != "made" || got.Tags["k"] != "v" {
			t.Errorf("read %v: %+v", reads, got)
		}
	}
}

func TestValidate(t *testing.T) {
	ok := Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 1}
	mapped := func(m ...Mapping) Options { return Options{Mappings: m} }
	tests := map[string]struct {
		options Options
		err     string
	}{
		"nothing":              {Options{}, ""},
		"much":                 {Options{VirtualizationType: "hvm", RootDeviceName: "xvda", Mappings: []Mapping{ok, {DeviceName: "xvdzz", SnapshotID: "snap-1", VolumeType: "gp2"}}}, ""},
		"no device":            {mapped(Mapping{DeviceName: "/dev/sdb", NoDevice: true}), ""},
		"ephemeral":            {mapped(Mapping{DeviceName: "/dev/sdb", VirtualName: "ephemeral0"}), ""},
		"paravirtual":          {Options{VirtualizationType: "paravirtual"}, "Outscale has hvm only"},
		"other virtualization": {Options{VirtualizationType: "xen"}, `"xen"`},
		"root name":            {Options{RootDeviceName: "nvme0n1"}, `root_device_name is "nvme0n1"`},
		"device name":          {mapped(Mapping{DeviceName: "/dev/nvme0n1", VolumeSizeGiB: 1}), "/dev/nvme0n1"},
		"no device name":       {mapped(Mapping{VolumeSizeGiB: 1}), "omi_block_device_mappings[0]: device_name is required"},
		"no size":              {mapped(Mapping{DeviceName: "/dev/sdb"}), "volume_size or snapshot_id"},
		"virtual name":         {mapped(Mapping{DeviceName: "/dev/sdb", VirtualName: "disk"}), `virtual_name "disk"`},
		"type":                 {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 1, VolumeType: "gp3"}), `volume_type "gp3"`},
		"size":                 {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 14902}), "volume_size 14902"},
		"negative size":        {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: -1}), "volume_size -1"},
		"iops without io1":     {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 1, IOPS: 100}), "not io1"},
		"io1 without iops":     {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 1, VolumeType: "io1"}), "iops is required for device /dev/sdb"},
		"iops":                 {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 1000, VolumeType: "io1", IOPS: 13001}), "iops 13001"},
		"iops for each":        {mapped(Mapping{DeviceName: "/dev/sdb", VolumeSizeGiB: 1, VolumeType: "io1", IOPS: 301}), "300 for each"},
		"twice":                {mapped(ok, Mapping{DeviceName: "xvdb", VolumeSizeGiB: 2}), "omi_block_device_mappings[1]: device xvdb is there twice"},
		"root twice":           {Options{RootDeviceName: "xvdf", Mappings: []Mapping{{DeviceName: "/dev/sda1"}, {DeviceName: "xvdf"}}}, "twice"},
		"root without device":  {mapped(Mapping{DeviceName: "xvda", NoDevice: true}), "no_device"},
		"root of a snapshot":   {mapped(Mapping{DeviceName: "xvda", SnapshotID: "snap-1"}), "snapshot_id"},
		"root ephemeral":       {mapped(Mapping{DeviceName: "xvda", VirtualName: "ephemeral0"}), "virtual_name"},
		"all at once":          {Options{VirtualizationType: "xen", RootDeviceName: "x y"}, `"x y"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := test.options.Validate()
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("the error is %v, want %q", err, test.err)
			}
		})
	}
}

// TestSparseAnswers: an answer may lack any field; that is an error, or a zero,
// never a panic.
func TestSparseAnswers(t *testing.T) {
	empty := []reply{{200, `{}`}}
	s := newFake(t, map[string][]reply{
		"ReadVms": empty, "ReadImages": empty, "ReadVolumes": empty, "ReadSnapshots": empty,
		"CreateVolume": empty, "CreateSnapshot": empty, "CreateImage": empty,
		"instance-id": {{200, "i-12345678"}},
	})
	c := s.cloud(Options{SourceOMI: "ami-12345678"})
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
	}).cloud(Options{})
	if host, err := bare.Host(ctx); err != nil || host.Zone != "" {
		t.Errorf("%+v, %v", host, err)
	}
	if v, err := bare.Volume(ctx, "vol-12345678"); err != nil || v.Attach != bake.Detached {
		t.Errorf("%+v, %v", v, err)
	}
	if snap, err := bare.Snapshot(ctx, "snap-12345678"); err != nil || snap.Percent != -1 || snap.State != bake.SnapshotPending {
		t.Errorf("%+v, %v", snap, err)
	}
	if img, err := bare.Image(ctx, "ami-12345678"); err != nil || img.Root.Snapshot != "" || img.Created != "" {
		t.Errorf("%+v, %v", img, err)
	}
}

// TestSnapshotStates: the API's words for the states of a snapshot.
func TestSnapshotStates(t *testing.T) {
	for word, want := range map[string]bake.SnapshotState{
		"in-queue": bake.SnapshotPending, "pending": bake.SnapshotPending, "pending/queued": bake.SnapshotPending,
		"completed": bake.SnapshotCompleted, "error": bake.SnapshotError, "deleting": bake.SnapshotError,
	} {
		s := newFake(t, map[string][]reply{"ReadSnapshots": {{200, `{"Snapshots":[{"SnapshotId":"snap-12345678","Progress":7,"State":"` + word + `"}]}`}}})
		got, err := s.cloud(Options{}).Snapshot(t.Context(), "snap-12345678")
		if err != nil || got.State != want || got.Percent != 7 {
			t.Errorf("%s: %+v, %v", word, got, err)
		}
	}
}

// TestInheritedSpeed: the speed of a source's device is asked for where it can be.
func TestInheritedSpeed(t *testing.T) {
	for kind, want := range map[string]string{"gp2": "<nil>", "io1": "300"} {
		s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[{"ImageId":"ami-12345678","RootDeviceName":"/dev/sda1",
			"BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{}},{"DeviceName":"/dev/sdb","Bsu":{"VolumeType":"` + kind + `","Iops":300,"VolumeSize":10}}]}]}`}}})
		req, err := s.cloud(Options{}).imageRequest(t.Context(), bake.ImageSpec{Source: &bake.Image{ID: "ami-12345678"}})
		if err != nil || len(*req.BlockDeviceMappings) != 2 {
			t.Fatalf("%+v, %v", req, err)
		}
		got := "<nil>"
		if iops := (*req.BlockDeviceMappings)[1].Bsu.Iops; iops != nil {
			got = strconv.Itoa(*iops)
		}
		if got != want {
			t.Errorf("%s: %s iops, want %s", kind, got, want)
		}
	}
}

// TestVolumeSpeed: an image may tell the speed of a gp2 root, which CreateVolume
// takes of io1 only.
func TestVolumeSpeed(t *testing.T) {
	for kind, want := range map[string]bool{"gp2": false, "io1": true} {
		s := newFake(t, map[string][]reply{
			"CreateVolume": {{200, `{"Volume":{"VolumeId":"vol-12345678"}}`}}, "CreateTags": {{200, `{}`}},
		})
		_, err := s.cloud(Options{}).CreateVolume(t.Context(), bake.VolumeSpec{Build: "b", Zone: "a", SizeGiB: 4, Type: kind, IOPS: 300})
		if err != nil {
			t.Fatal(err)
		}
		sent, _ := io.ReadAll(s.seen["CreateVolume"][0].Body)
		if has := strings.Contains(string(sent), `"Iops":300`); has != want {
			t.Errorf("%s: sent %s", kind, sent)
		}
	}
}
