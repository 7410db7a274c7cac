package state

import "strconv"

// volumeType holds the limits of a volume type.
type volumeType struct {
	minGiB, maxGiB   int64
	provisioned      bool  // the request may set the IOPS
	minIOPS, maxIOPS int64 // the limits of the IOPS
	perGiB           int64 // the largest IOPS for each GiB
	maxThroughput    int64 // in MiB/s; 0: the request must not set it
}

// volumeTypes holds the limits of each type: those of EC2 (API reference of CreateVolume and
// ModifyVolume, as in aws-sdk-go-v2/service/ec2 v1.344.1; the ratios are from the EBS User Guide),
// or those of Outscale (OpenAPI 1.42) where they are wider: standard to 14901 GiB, io1 to 300 IOPS
// per GiB. A dialect applies the limits of its own cloud.
var volumeTypes = map[string]volumeType{
	"standard": {minGiB: 1, maxGiB: 14901},
	"gp2":      {minGiB: 1, maxGiB: 16384},
	"gp3":      {minGiB: 1, maxGiB: 65536, provisioned: true, minIOPS: 3000, maxIOPS: 80000, perGiB: 500, maxThroughput: 2000},
	"io1":      {minGiB: 4, maxGiB: 16384, provisioned: true, minIOPS: 100, maxIOPS: 64000, perGiB: 300},
	"io2":      {minGiB: 4, maxGiB: 65536, provisioned: true, minIOPS: 100, maxIOPS: 256000, perGiB: 1000},
	"st1":      {minGiB: 125, maxGiB: 16384},
	"sc1":      {minGiB: 125, maxGiB: 16384},
}

const (
	gp3IOPS       = 3000
	gp3Throughput = 125 // in MiB/s
	// defaultVolumeType is the default of EC2. The Outscale API passes its own.
	defaultVolumeType = "gp2"
)

// performance holds the attributes of a volume that depend on its type.
type performance struct {
	Type             string
	SizeGiB          int64
	IOPS, Throughput int64
}

// complete returns the attributes with defaults filled in, or an error if the type does not allow
// them.
func (p performance) complete() (performance, error) {
	if p.Type == "" {
		p.Type = defaultVolumeType
	}
	kind, ok := volumeTypes[p.Type]
	if !ok {
		return p, refuse(InvalidValue, "volume", p.Type, "there is no such volume type")
	}
	if p.SizeGiB < kind.minGiB || p.SizeGiB > kind.maxGiB {
		return p, refuse(InvalidValue, "size", decimal(p.SizeGiB),
			"a volume of the type %s has from %d to %d GiB", p.Type, kind.minGiB, kind.maxGiB)
	}
	p, err := p.completeIOPS(kind)
	if err != nil {
		return p, err
	}
	return p.completeThroughput(kind)
}

func (p performance) completeIOPS(kind volumeType) (performance, error) {
	switch {
	case !kind.provisioned && p.IOPS != 0:
		return p, refuse(Unsuited, "iops", decimal(p.IOPS), "The parameter iops is not supported for %s volumes.", p.Type)
	case p.Type == "gp2":
		// EBS User Guide: 3 IOPS per GiB, 100 at least and 16000 at most.
		p.IOPS = min(16000, max(100, 3*p.SizeGiB))
		return p, nil
	case !kind.provisioned:
		return p, nil
	case p.IOPS == 0 && p.Type == "gp3":
		p.IOPS = gp3IOPS
	case p.IOPS == 0:
		return p, refuse(Missing, "iops", "", "a volume of the type %s needs its iops", p.Type)
	}
	return p, p.checkIOPS(kind)
}

// checkIOPS returns an error if the type or the size does not allow the IOPS. The smallest value
// of a type is allowed at any size.
func (p performance) checkIOPS(kind volumeType) error {
	bad := func(format string, args ...any) error {
		return refuse(InvalidValue, "iops", decimal(p.IOPS), "Volume iops of %d is too "+format, append([]any{p.IOPS}, args...)...)
	}
	switch {
	case p.IOPS < kind.minIOPS:
		return bad("low; minimum is %d.", kind.minIOPS)
	case p.IOPS > kind.maxIOPS:
		return bad("high; maximum is %d.", kind.maxIOPS)
	case p.IOPS > max(kind.minIOPS, kind.perGiB*p.SizeGiB):
		return refuse(InvalidValue, "iops", decimal(p.IOPS), "Iops to volume size ratio of %f is too high; maximum is %d",
			float64(p.IOPS)/float64(p.SizeGiB), kind.perGiB)
	}
	return nil
}

func (p performance) completeThroughput(kind volumeType) (performance, error) {
	if kind.maxThroughput == 0 {
		if p.Throughput != 0 {
			return p, refuse(Unsuited, "throughput", decimal(p.Throughput),
				"throughput can only be specified for volumeType gp3, not %s.", p.Type)
		}
		return p, nil
	}
	if p.Throughput == 0 {
		p.Throughput = gp3Throughput
	}
	switch {
	case p.Throughput < gp3Throughput:
		return p, refuse(InvalidValue, "throughput", decimal(p.Throughput),
			"Throughput (MiBps) of %d is too low; minimum is %d.", p.Throughput, gp3Throughput)
	case p.Throughput > kind.maxThroughput:
		return p, refuse(InvalidValue, "throughput", decimal(p.Throughput),
			"Throughput (MiBps) of %d is too high; maximum is %d.", p.Throughput, kind.maxThroughput)
	case 4*p.Throughput > p.IOPS: // EBS User Guide: at most 0.25 MiB/s per IOPS
		return p, refuse(InvalidValue, "throughput", decimal(p.Throughput),
			"Throughput (MiBps) to iops ratio of %f is too high; maximum is 0.250000 MiBps per iops.",
			float64(p.Throughput)/float64(p.IOPS))
	}
	return p, nil
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
