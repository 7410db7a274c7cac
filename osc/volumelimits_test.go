package osc

import (
	"io"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestVolumeLimits checks that volumes that the API would refuse are not requested.
func TestVolumeLimits(t *testing.T) {
	s := newFake(t, map[string][]reply{})
	for want, spec := range map[string]bake.VolumeSpec{
		"root_volume_size is 14902": {SizeGiB: 14902},
		"root_volume_iops is 13001": {SizeGiB: 100, Type: "io1", IOPS: 13001},
		"300 for each":              {SizeGiB: 1, Type: "io1", IOPS: 301},
		"root_volume_type is":       {SizeGiB: 1, Type: "gp3"},
	} {
		if _, err := s.cloud(Config{}).CreateVolume(t.Context(), spec); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", spec, err, want)
		}
	}
}

// TestVolumeSpeed checks that the IOPS of a gp2 root, which an image may contain, are not
// passed to CreateVolume, which accepts them for io1 only.
func TestVolumeSpeed(t *testing.T) {
	for kind, want := range map[string]bool{"gp2": false, "io1": true} {
		s := newFake(t, map[string][]reply{
			"CreateVolume": {{200, `{"Volume":{"VolumeId":"vol-12345678"}}`}}, "CreateTags": {{200, `{}`}},
		})
		_, err := s.cloud(Config{}).CreateVolume(t.Context(), bake.VolumeSpec{Build: "b", Zone: "a", SizeGiB: 4, Type: kind, IOPS: 300})
		if err != nil {
			t.Fatal(err)
		}
		sent, _ := io.ReadAll(s.seen["CreateVolume"][0].Body)
		if has := strings.Contains(string(sent), `"Iops":300`); has != want {
			t.Errorf("%s: sent %s", kind, sent)
		}
	}
}

// TestRootVolumeOfTheSource checks the root volume's options against the source's type and size
// before anything is created: a locked source would be copied before its volume is refused.
func TestRootVolumeOfTheSource(t *testing.T) {
	o := newOutscale(t, state.Instant())
	source := bake.Image{ID: "ami-00000001", Locked: true, Root: bake.RootVolume{Type: "gp2", SizeGiB: 10}}
	fast, huge := source, source
	fast.Root.Type, huge.Root.SizeGiB = io1, maxSizeGiB+1
	for name, test := range map[string]struct {
		options builder.Config
		source  *bake.Image
		err     string
	}{
		"IOPS for gp2":              {builder.Config{RootVolumeIOPS: 300}, &source, "root_volume_iops is 300, but the root volume is gp2"},
		"IOPS for io1":              {builder.Config{RootVolumeIOPS: 300, RootVolumeType: io1}, &source, ""},
		"IOPS for another type":     {builder.Config{RootVolumeIOPS: 300, RootVolumeType: "standard"}, nil, "only io1 takes it"},
		"as many as the size takes": {builder.Config{RootVolumeIOPS: 3000, RootVolumeType: io1}, &source, ""},
		"more than that":            {builder.Config{RootVolumeIOPS: 3001, RootVolumeType: io1}, &source, "root_volume_iops is 3001, but io1 may have 300 for each of its 10 GiB"},
		"of the source's type":      {builder.Config{RootVolumeIOPS: 3001}, &fast, "300 for each of its 10 GiB"},
		"for a larger volume":       {builder.Config{RootVolumeIOPS: 3001, RootVolumeSize: 11}, &fast, ""},
		"size of the source":        {builder.Config{}, &huge, "root_volume_size is 14902"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.cloud(t, Config{Config: test.options}).Publication(t.Context(), bake.Facts{Source: test.source})
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("the error is %v, want %q", err, test.err)
			}
		})
	}
}
