package state

import "time"

// Timing is how long a cloud takes for things, from the answer to the request
// until the thing is in the state that was asked for. Zero is at once.
type Timing struct {
	VolumeCreate time.Duration
	VolumeDelete time.Duration
	// VolumeModify is for each of its two parts, modifying and optimizing.
	VolumeModify time.Duration
	Attach       time.Duration
	Detach       time.Duration
	// A snapshot takes a base and then by what it holds.
	Snapshot       time.Duration
	SnapshotPerGiB time.Duration
	// ImageCreate is from registering to available.
	ImageCreate time.Duration
	// A copy of a snapshot takes a base and then by what it holds; a copy of an
	// image as long as its slowest snapshot.
	Copy       time.Duration
	CopyPerGiB time.Duration
	VMStart    time.Duration
	VMStop     time.Duration
}

// Instant is a cloud that takes no time.
func Instant() Timing { return Timing{} }

// AWS is about how long EC2 takes, times scale. EC2 promises none of these
// figures, and two have a public observation behind them:
//
//   - a small snapshot: "about 3 minutes" in github.com/aws/aws-sdk-ruby issue 978
//     (2015), one minute to nine by the volume's throughput in
//     github.com/supabase/postgres pull 2457 (2026). Taken as half a minute and
//     20 s per GiB;
//   - a snapshot and its copy: 153 s for the test of
//     github.com/hashicorp/terraform-provider-aws pull 40336 (2024), both
//     together.
//
// The others are estimates.
func AWS(scale float64) Timing {
	return Timing{
		VolumeCreate: 3 * time.Second,
		VolumeDelete: 5 * time.Second,
		VolumeModify: 30 * time.Second,
		Attach:       3 * time.Second,
		Detach:       5 * time.Second,
		Snapshot:     30 * time.Second, SnapshotPerGiB: 20 * time.Second,
		ImageCreate: 5 * time.Second,
		Copy:        90 * time.Second, CopyPerGiB: 20 * time.Second,
		VMStart: 15 * time.Second,
		VMStop:  40 * time.Second,
	}.times(scale)
}

// Outscale is about how long Outscale's cloud takes, times scale. The one figure
// with a public observation behind it is a snapshot's: more than 20 s for a small
// volume in github.com/outscale/terraform-provider-outscale issue 514 (2025). The
// others are estimates.
func Outscale(scale float64) Timing {
	return Timing{
		VolumeCreate: 3 * time.Second,
		VolumeDelete: 3 * time.Second,
		VolumeModify: 10 * time.Second,
		Attach:       4 * time.Second,
		Detach:       4 * time.Second,
		Snapshot:     25 * time.Second, SnapshotPerGiB: 15 * time.Second,
		ImageCreate: 5 * time.Second,
		Copy:        60 * time.Second, CopyPerGiB: 20 * time.Second,
		VMStart: 30 * time.Second,
		VMStop:  30 * time.Second,
	}.times(scale)
}

func (t Timing) times(scale float64) Timing {
	for _, d := range []*time.Duration{
		&t.VolumeCreate, &t.VolumeDelete, &t.VolumeModify, &t.Attach, &t.Detach, &t.Snapshot, &t.SnapshotPerGiB,
		&t.ImageCreate, &t.Copy, &t.CopyPerGiB, &t.VMStart, &t.VMStop,
	} {
		*d = time.Duration(float64(*d) * scale)
	}
	return t
}

func (t Timing) snapshot(bytes int64) time.Duration {
	return t.Snapshot + byData(t.SnapshotPerGiB, bytes)
}

func (t Timing) copy(bytes int64) time.Duration {
	return t.Copy + byData(t.CopyPerGiB, bytes)
}

func byData(perGiB time.Duration, bytes int64) time.Duration {
	return time.Duration(float64(perGiB) * float64(bytes) / (1 << 30))
}

// Measurer is what a Disks may also be: it tells how many bytes a snapshot holds
// that were written. Of another Disks every snapshot is taken to be full.
type Measurer interface {
	SnapshotBytes(id string) (int64, error)
}

// written is how much a snapshot holds, for the time that it takes.
func (c *Cloud) written(id string, sizeGiB int64) int64 {
	if m, ok := c.disks.(Measurer); ok {
		if n, err := m.SnapshotBytes(id); err == nil {
			return n
		}
	}
	return sizeGiB << 30
}
