package amazon

import (
	"cmp"
	"fmt"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// volumeLimit holds EBS's limits of a volume type.
type volumeLimit struct {
	minSize, maxSize int64 // in GiB
	// minIOPS is 0 where none can be provisioned.
	minIOPS, maxIOPS int64
	// perGiB is the most IOPS for each GiB.
	perGiB int64
	// required says that the IOPS must be given.
	required bool
	// minThroughput and maxThroughput are in MiB/s; 0 where none can be provisioned.
	minThroughput, maxThroughput int64
}

// volumeLimits are those of each type.
// Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html,
// and for the ratios https://docs.aws.amazon.com/ebs/latest/userguide/general-purpose.html
// and provisioned-iops.html beside it.
var volumeLimits = map[string]volumeLimit{
	"gp2":      {minSize: 1, maxSize: 16384},
	"gp3":      {minSize: 1, maxSize: 65536, minIOPS: 3000, maxIOPS: 80000, perGiB: 500, minThroughput: 125, maxThroughput: 2000},
	"io1":      {minSize: 4, maxSize: 16384, minIOPS: 100, maxIOPS: 64000, perGiB: 50, required: true},
	"io2":      {minSize: 4, maxSize: 65536, minIOPS: 100, maxIOPS: 256000, perGiB: 1000, required: true},
	"st1":      {minSize: 125, maxSize: 16384},
	"sc1":      {minSize: 125, maxSize: 16384},
	"standard": {minSize: 1, maxSize: 1024},
}

// hardDisks are the types that no instance can boot from.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/hdd-vols.html
var hardDisks = map[string]bool{"st1": true, "sc1": true}

// VolumeType implements bake.Cloud.
func (c *Cloud) VolumeType(name string) bake.VolumeType {
	name = cmp.Or(name, "gp2")
	limit := volumeLimits[name]
	return bake.VolumeType{Name: name, TakesIOPS: limit.minIOPS > 0, NeedsIOPS: limit.required, TakesThroughput: limit.minThroughput > 0}
}

const (
	// gp3Baseline is the IOPS of a gp3 volume that is given none. A small volume may have as many
	// too.
	gp3Baseline = 3000
	// iopsPerMiB is how many IOPS each MiB/s of throughput takes.
	iopsPerMiB = 4
)

// wanted holds the user's options of a volume; zero and empty mean not given.
type wanted struct {
	// prefix is of the names of the options: empty, or root_volume_.
	prefix                    string
	volumeType                string
	sizeGiB, iops, throughput int64
	// inherits reports whether values that are not given come from elsewhere.
	inherits bool
	// sourceIOPS are those of the source's volume, if a volume without iops inherits them.
	sourceIOPS int64
}

// name is the name of an option: volume_type of a mapping is root_volume_type of
// the root.
func (w wanted) name(option string) string {
	if w.prefix == "" && (option == "type" || option == "size") {
		return "volume_" + option
	}
	return w.prefix + option
}

// check fails when EBS would refuse the volume.
func (w wanted) check() error {
	for _, o := range []struct {
		option string
		value  int64
		unit   string
	}{
		{"size", w.sizeGiB, "GiB"}, {"iops", w.iops, "operations per second"}, {"throughput", w.throughput, "MiB/s"},
	} {
		if o.value < 0 {
			return fmt.Errorf("%s is %d, but must be a number of %s", w.name(o.option), o.value, o.unit)
		}
	}
	if w.volumeType == "" {
		return w.checkUntyped()
	}
	limit := volumeLimits[w.volumeType]
	if err := w.within("size", w.sizeGiB, limit.minSize, limit.maxSize); err != nil {
		return err
	}
	if err := w.checkIOPS(limit); err != nil {
		return err
	}
	return w.checkThroughput(limit)
}

// checkUntyped returns an error for options that not every type has, if the type is not given.
func (w wanted) checkUntyped() error {
	switch {
	case w.inherits:
		return nil
	case w.iops != 0:
		return fmt.Errorf("%s needs %s", w.name("iops"), w.name("type"))
	case w.throughput != 0:
		return fmt.Errorf("%s needs %s", w.name("throughput"), w.name("type"))
	}
	return nil
}

func (w wanted) checkIOPS(limit volumeLimit) error {
	switch {
	case w.iops == 0 && limit.required && !w.inherits:
		return fmt.Errorf("%s is required for %s %s", w.name("iops"), w.name("type"), w.volumeType)
	case w.iops == 0:
		return nil
	case limit.minIOPS == 0:
		return fmt.Errorf("%s is for io1, io2 and gp3, and %s is %q", w.name("iops"), w.name("type"), w.volumeType)
	}
	if err := w.within("iops", w.iops, limit.minIOPS, limit.maxIOPS); err != nil {
		return err
	}
	if w.sizeGiB > 0 && w.iops > max(limit.perGiB*w.sizeGiB, limit.minIOPS) {
		return fmt.Errorf("%s is %d, but %s may have %d for each of its %d GiB", w.name("iops"), w.iops, w.volumeType, limit.perGiB, w.sizeGiB)
	}
	return nil
}

func (w wanted) checkThroughput(limit volumeLimit) error {
	switch {
	case w.throughput == 0:
		return nil
	case limit.minThroughput == 0:
		return fmt.Errorf("%s is for gp3, and %s is %q", w.name("throughput"), w.name("type"), w.volumeType)
	}
	if err := w.within("throughput", w.throughput, limit.minThroughput, limit.maxThroughput); err != nil {
		return err
	}
	if need := w.throughput * iopsPerMiB; need > max(cmp.Or(w.iops, w.sourceIOPS), gp3Baseline) {
		return fmt.Errorf("%s is %d MiB/s, which takes %s of %d", w.name("throughput"), w.throughput, w.name("iops"), need)
	}
	return nil
}

// within returns an error if a value is outside of the limits of the type.
func (w wanted) within(option string, value, low, high int64) error {
	if value == 0 || value >= low && value <= high {
		return nil
	}
	return fmt.Errorf("%s is %d, but %s %s takes %d to %d", w.name(option), value, w.name("type"), w.volumeType, low, high)
}

// checkRootVolume returns an error if EC2 would refuse or ignore the root volume's options with the
// type and the size of the source's root volume. Without such an option the source decides.
func (c *Cloud) checkRootVolume(source *bake.Image) error {
	w := c.config.rootVolume()
	if w == (wanted{prefix: w.prefix, inherits: w.inherits}) {
		return nil
	}
	if source == nil {
		w.volumeType = c.VolumeType(w.volumeType).Name
		return w.check()
	}
	root := source.Root
	if w.volumeType == "" || w.volumeType == root.Type {
		w.sourceIOPS = root.IOPS
	}
	w.volumeType, w.sizeGiB = cmp.Or(w.volumeType, root.Type), cmp.Or(w.sizeGiB, root.SizeGiB)
	if err := w.check(); err != nil {
		return fmt.Errorf("%w (a type or size that is not given is that of %s: %s, %d GiB)", err, source.ID, root.Type, root.SizeGiB)
	}
	return nil
}
