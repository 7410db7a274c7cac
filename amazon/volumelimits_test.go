package amazon

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
)

// TestRootVolumeOfTheSource checks the root volume's options against the source's type and size
// before anything is created: a locked source would be copied before its volume is refused.
func TestRootVolumeOfTheSource(t *testing.T) {
	gp2 := &bake.Image{ID: "ami-1", Locked: true, Root: bake.RootVolume{Type: "gp2", SizeGiB: 10}}
	gp3 := &bake.Image{ID: "ami-1", Root: bake.RootVolume{Type: "gp3", SizeGiB: 10, IOPS: 4000, Throughput: 125}}
	unlimited := &bake.Image{ID: "ami-1", Root: bake.RootVolume{Type: "gp3", SizeGiB: 10, IOPS: 1000000}}
	small := &bake.Image{ID: "ami-1", Root: bake.RootVolume{Type: "gp2", SizeGiB: 2}}
	iops := func(n int64) Config { return Config{Config: builder.Config{RootVolumeIOPS: n}} }
	of := func(volumeType string, size, iops int64) Config {
		return Config{Config: builder.Config{RootVolumeType: volumeType, RootVolumeSize: size, RootVolumeIOPS: iops}}
	}
	through := func(n int64) Config { return Config{VolumeConfig: VolumeConfig{RootVolumeThroughput: n}} }
	for name, test := range map[string]struct {
		options Config
		source  *bake.Image
		want    []string // of the error; nil for none
	}{
		"no option":                 {Config{}, unlimited, nil},
		"IOPS for gp2":              {iops(3000), gp2, []string{"root_volume_iops is for io1, io2 and gp3", "is that of ami-1: gp2, 10 GiB"}},
		"IOPS from scratch":         {iops(3000), nil, []string{"root_volume_iops is for io1, io2 and gp3"}},
		"IOPS for gp3":              {iops(5000), gp3, nil},
		"too many for its size":     {iops(5001), gp3, []string{"root_volume_iops is 5001, but gp3 may have 500 for each of its 10 GiB"}},
		"as many for a larger one":  {of("", 11, 5001), gp3, nil},
		"too many for io1":          {of("io1", 0, 501), gp2, []string{"root_volume_iops is 501", "50 for each of its 10 GiB"}},
		"a source too small":        {of("io1", 0, 100), small, []string{"root_volume_size is 2", "4 to 16384"}},
		"a size of unlimited":       {of("", 20, 0), unlimited, nil},
		"throughput for gp2":        {through(200), gp2, []string{"root_volume_throughput is for gp3"}},
		"throughput for its IOPS":   {through(1000), gp3, nil},
		"throughput for more IOPS":  {through(1001), gp3, []string{"root_volume_throughput is 1001", "root_volume_iops of 4004"}},
		"throughput with less IOPS": {Config{Config: builder.Config{RootVolumeIOPS: 3000}, VolumeConfig: VolumeConfig{RootVolumeThroughput: 1000}}, gp3, []string{"root_volume_iops of 4000"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := faked(t, &fake{actions: map[string]action{}}, test.options).Publication(t.Context(), bake.Facts{Source: test.source})
			if test.want != nil {
				says(t, err, test.want...)
			} else if err != nil {
				t.Errorf("refused: %v", err)
			}
		})
	}
}
