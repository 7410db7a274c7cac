package state

import "strconv"

// volumeKind is what a volume type allows.
type volumeKind struct {
	minGiB, maxGiB   int64
	provisioned      bool  // its IOPS can be asked for
	minIOPS, maxIOPS int64 // of those
	perGiB           int64 // IOPS at most per GiB
	maxThroughput    int64 // MiB/s; 0: cannot be asked for
}

// The bounds are EC2's (API reference of CreateVolume and ModifyVolume, as in
// aws-sdk-go-v2/service/ec2 v1.344.1; the ratios are the EBS User Guide's), or
// Outscale's (OpenAPI 1.42) where those are wider: standard to 14901 GiB, io1 to
// 300 IOPS per GiB. A wire format narrows them to its own cloud's.
var volumeKinds = map[string]volumeKind{
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
	gp3Throughput = 125 // MiB/s
	// defaultVolumeType is EC2's. The Outscale API names its own.
	defaultVolumeType = "gp2"
)

// performance is what of a volume depends on its type.
type performance struct {
	Type             string
	SizeGiB          int64
	IOPS, Throughput int64
}

// complete fills in what was not given and refuses what the type does not allow.
func (p performance) complete() (performance, error) {
	if p.Type == "" {
		p.Type = defaultVolumeType
	}
	kind, ok := volumeKinds[p.Type]
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

func (p performance) completeIOPS(kind volumeKind) (performance, error) {
	switch {
	case !kind.provisioned && p.IOPS != 0:
		return p, refuse(InvalidValue, "iops", decimal(p.IOPS), "the volume type %s has no iops to ask for", p.Type)
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
	most := min(kind.maxIOPS, max(kind.minIOPS, kind.perGiB*p.SizeGiB))
	if p.IOPS < kind.minIOPS || p.IOPS > most {
		return p, refuse(InvalidValue, "iops", decimal(p.IOPS),
			"a volume of the type %s with %d GiB has from %d to %d iops", p.Type, p.SizeGiB, kind.minIOPS, most)
	}
	return p, nil
}

func (p performance) completeThroughput(kind volumeKind) (performance, error) {
	if kind.maxThroughput == 0 {
		if p.Throughput != 0 {
			return p, refuse(InvalidValue, "throughput", decimal(p.Throughput),
				"the volume type %s has no throughput to ask for", p.Type)
		}
		return p, nil
	}
	if p.Throughput == 0 {
		p.Throughput = gp3Throughput
	}
	// EBS User Guide: at most 0.25 MiB/s per IOPS.
	most := min(kind.maxThroughput, p.IOPS/4)
	if p.Throughput < gp3Throughput || p.Throughput > most {
		return p, refuse(InvalidValue, "throughput", decimal(p.Throughput),
			"a volume of the type %s with %d iops has from %d to %d MiB/s", p.Type, p.IOPS, gp3Throughput, most)
	}
	return p, nil
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
