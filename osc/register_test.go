package osc

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/bake/cloudtest"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestRegisterLooksFirst checks that the image is found, and not created again, if the
// response of CreateImage is lost, and that nothing is searched for otherwise.
func TestRegisterLooksFirst(t *testing.T) {
	o := newOutscale(t, state.Instant())
	c := o.cloud(t, Config{})
	_, snapshot := madeSnapshot(t, c, "b")
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

// TestRegister checks the block devices and the inherited attributes of an image.
func TestRegister(t *testing.T) {
	tests := map[string]struct {
		options Config
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
			options: Config{
				ImageConfig: ImageConfig{OMIBlockDeviceMappings: []BlockDevice{
					{BlockDevice: builder.BlockDevice{DeviceName: "/dev/xvdb", VolumeSize: 9, VolumeType: "io1", IOPS: 300}, DeleteOnVMDeletion: true},
					{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdc", NoDevice: true}},
					{BlockDevice: builder.BlockDevice{DeviceName: "xvdd", VirtualName: "ephemeral1"}},
					{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1", VolumeSize: 8, VolumeType: "io1", IOPS: 200}},
				}},
			},
			spec: bake.ImageSpec{SizeGiB: 4, VolumeType: "gp2"},
			want: []string{"/dev/sda1 build 8 io1 200 false", "/dev/xvdb - 9 io1 300 true", "/dev/xvdd ephemeral1"},
		},
		"a root smaller than its volume": {
			options: Config{ImageConfig: ImageConfig{OMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sda1", VolumeSize: 1}, DeleteOnVMDeletion: true}}}},
			spec:    bake.ImageSpec{SizeGiB: 4, VolumeType: "gp2"},
			want:    []string{"/dev/sda1 build 4 gp2 0 true", "/dev/sdb - 2 standard 0 false", "/dev/sdc ephemeral0"},
		},
		"from scratch, as the reference's example": {
			options: Config{
				Config:      builder.Config{FromScratch: true, RootDeviceName: "xvdf"},
				ImageConfig: ImageConfig{OMIVirtualizationType: "hvm", OMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "xvdf", VolumeType: "gp2"}, DeleteOnVMDeletion: true}}},
			},
			spec: bake.ImageSpec{SizeGiB: 15, VolumeType: "gp2"}, scratch: true,
			want: []string{"/dev/sda1 build 15 gp2 0 true"},
			log:  "root_device_name xvdf",
		},
		"from scratch without mappings": {
			options: Config{Config: builder.Config{FromScratch: true, RootDeviceName: "xvda"}},
			spec:    bake.ImageSpec{SizeGiB: 5}, scratch: true,
			want: []string{"/dev/sda1 build 5 standard 0 true"},
			log:  "root_device_name xvda",
		},
		"from scratch with another device": {
			options: Config{Config: builder.Config{FromScratch: true, RootDeviceName: "/dev/sda1"}, ImageConfig: ImageConfig{OMIBlockDeviceMappings: []BlockDevice{{BlockDevice: builder.BlockDevice{DeviceName: "sdh", VolumeSize: 3}}}}},
			spec:    bake.ImageSpec{SizeGiB: 5}, scratch: true,
			want: []string{"/dev/sda1 build 5 standard 0 true", "/dev/sdh - 3 standard 0 false"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			var logged []string
			if err := errors.Join(test.options.checkRequest()...); err != nil {
				t.Fatal(err)
			}
			c := o.cloud(t, test.options)
			c.log = func(format string, args ...any) { logged = append(logged, fmt.Sprintf(format, args...)) }
			_, snapshot := madeSnapshot(t, c, "b")
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

// TestInheritance checks that a build reports an image that can only be started as its source
// is, whether or not the source was read by the same Cloud before.
func TestInheritance(t *testing.T) {
	for _, reads := range []bool{true, false} {
		o := newOutscale(t, state.Instant())
		source := o.image(t, mine, "uefi only", state.ImageAttributes{
			Architecture: "i386", BootModes: []string{"uefi"}, TPMMandatory: true, ProductCodes: []string{"0002"}})
		c := o.cloud(t, Config{SourceConfig: SourceConfig{SourceOMI: source.ID}})
		_, snapshot := madeSnapshot(t, c, "b")
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
			!slices.Equal(got.ProductCodes, []string{"0002"}) || got.Description != "made" || len(got.Tags) > 0 {
			t.Errorf("read %v: %+v", reads, got)
		}
	}
}

// TestInheritedSpeed checks that the speed of a source's device is requested if the volume
// type allows it.
func TestInheritedSpeed(t *testing.T) {
	for kind, want := range map[string]string{"gp2": "<nil>", "io1": "300"} {
		s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[{"ImageId":"ami-12345678","RootDeviceName":"/dev/sda1",
			"BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{}},{"DeviceName":"/dev/sdb","Bsu":{"VolumeType":"` + kind + `","Iops":300,"VolumeSize":10}}]}]}`}}})
		req, err := s.cloud(Config{}).registration(t.Context(), bake.ImageSpec{Source: &bake.Image{ID: "ami-12345678"}})
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

// TestOverriding checks that the user's options override inherited attributes.
func TestOverriding(t *testing.T) {
	tests := map[string]struct {
		options Config
		modes   []string
		tpm     bool
		codes   []string
	}{
		"inherited":    {Config{}, []string{"uefi"}, true, []string{"0002"}},
		"boot modes":   {Config{ImageConfig: ImageConfig{OMIBootModes: []string{"legacy", "uefi"}}}, []string{"legacy", "uefi"}, true, []string{"0002"}},
		"no TPM":       {Config{ImageConfig: ImageConfig{TPMMandatory: config.TriFalse}}, []string{"uefi"}, false, []string{"0002"}},
		"TPM":          {Config{ImageConfig: ImageConfig{TPMMandatory: config.TriTrue}}, []string{"uefi"}, true, []string{"0002"}},
		"product code": {Config{ImageConfig: ImageConfig{ProductCodes: []string{"0001", "0003"}}}, []string{"uefi"}, true, []string{"0001", "0003"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOutscale(t, state.Instant())
			test.options.SourceOMI = o.image(t, mine, "uefi only", state.ImageAttributes{
				BootModes: []string{"uefi"}, TPMMandatory: true, ProductCodes: []string{"0002"}}).ID
			c := o.cloud(t, test.options)
			source, err := c.Source(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, snapshot := madeSnapshot(t, c, "b")
			id, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "child", Snapshot: snapshot, SizeGiB: 4, Source: &source})
			if err != nil {
				t.Fatal(err)
			}
			got := o.find(t, string(id))
			if !slices.Equal(got.BootModes, test.modes) || got.TPMMandatory != test.tpm || !slices.Equal(got.ProductCodes, test.codes) {
				t.Errorf("%v, TPM %v, %v; want %+v", got.BootModes, got.TPMMandatory, got.ProductCodes, test)
			}
		})
	}
}

// TestDevicesOfACopiedSource checks that the new image has the devices of a locked source with
// the snapshots of its copy, which it may use.
func TestDevicesOfACopiedSource(t *testing.T) {
	o := newOutscale(t, state.Instant())
	everyone := state.PermissionChange{Add: state.Permissions{Public: true}}
	img, err := o.state.CreateImage(theirs, state.ImageRequest{
		Name: "two", IDDigits: 8, Attributes: state.ImageAttributes{RootDevice: "/dev/sda1"},
		Mappings: []state.Mapping{
			{Device: "/dev/sda1", Volume: &state.MappedVolume{SnapshotID: o.imported(t, theirs), SizeGiB: 4}},
			{Device: "/dev/sdb", Volume: &state.MappedVolume{SnapshotID: o.imported(t, theirs), SizeGiB: 4}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.state.ShareImage(theirs, img.ID, everyone, false); err != nil {
		t.Fatal(err)
	}
	c := o.cloud(t, Config{SourceConfig: SourceConfig{SourceOMI: img.ID}})
	source, err := c.Source(t.Context())
	if err != nil || !source.Locked {
		t.Fatalf("%+v, %v", source, err)
	}
	copied, err := c.Copy(t.Context(), bake.CopySpec{Build: "b", Source: source.ID, SourceRegion: home, Name: "passing"})
	if err != nil {
		t.Fatal(err)
	}
	_, snapshot := madeSnapshot(t, c, "b")
	id, err := c.Register(t.Context(), bake.ImageSpec{Build: "b", Name: "made", Snapshot: snapshot, SizeGiB: 4, Source: &source})
	if err != nil {
		t.Fatal(err)
	}
	ours, made := o.find(t, string(copied)).Mappings[1], o.find(t, string(id)).Mappings[1]
	if made.Device != "/dev/sdb" || made.Volume.SnapshotID != ours.Volume.SnapshotID || ours.Volume.SnapshotID == img.Mappings[1].Volume.SnapshotID {
		t.Errorf("the second device is %+v, the copy's %+v", made, ours)
	}
}

// TestConflictingImages checks that an image of the same name is a permanent conflict, and
// that one that is being deleted is not.
func TestConflictingImages(t *testing.T) { eachConflict(t, conflictingImages) }

func conflictingImages(t *testing.T, inTheWay reply) {
	t.Helper()
	image := reply{200, `{"Images":[{"ImageId":"ami-12345678","ImageName":"made","AccountId":"` + me + `"}]}`}
	none := reply{200, `{"Images":[]}`}
	made := reply{200, `{"Image":{"ImageId":"ami-87654321"}}`}
	tests := map[string]struct {
		answers, images []reply
		err             string
		calls           int
	}{
		"in the way": {[]reply{inTheWay}, []reply{image}, `image ami-12345678 has the name "made"`, 1},
		"going":      {[]reply{inTheWay, inTheWay, made}, []reply{none}, "", 3},
		"no reason":  {[]reply{inTheWay}, []reply{none}, "cannot ", many},
		"refused":    {[]reply{refused(400, "InvalidParameterValue", "4999", "no")}, []reply{none}, "4999", 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newFake(t, map[string][]reply{"CreateImage": test.answers, "ReadImages": test.images})
			cloud := s.cloud(Config{})
			id, err := settled(func() (bake.ImageID, error) {
				return cloud.Register(t.Context(), bake.ImageSpec{Name: "made", Snapshot: "snap-12345678"})
			})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) || err == nil && id != "ami-87654321" {
				t.Errorf("%s, %v; want %q", id, err, test.err)
			}
			if again := test.calls == many; again != errors.Is(err, bake.ErrUnsettled) {
				t.Errorf("it is marked as unsettled: %t", !again)
			}
			if n := s.count("CreateImage"); n != test.calls && (test.calls != many || n < 6) {
				t.Errorf("%d calls, want %d", n, test.calls)
			}
		})
	}
}

// TestFailedImage checks that the error for a failed image contains the cause.
func TestFailedImage(t *testing.T) {
	s := newFake(t, map[string][]reply{"ReadImages": {{200, `{"Images":[{"ImageId":"ami-12345678","State":"failed","StateComment":{"StateMessage":"no room"}}]}`}}})
	got, err := s.cloud(Config{}).Image(t.Context(), "ami-12345678")
	if err != nil || got.State != bake.ImageFailed || got.Reason != "no room" {
		t.Errorf("%+v, %v", got, err)
	}
}
