package state

import "time"

// Timing is how long the cloud takes to put a resource into the requested state. Zero is at once.
type Timing struct {
	VolumeCreate time.Duration
	VolumeDelete time.Duration
	// VolumeModify is the duration of each of the states modifying and optimizing.
	VolumeModify time.Duration
	Attach       time.Duration
	Detach       time.Duration
	// Snapshot is the fixed part of a snapshot's duration, SnapshotPerGiB the part for each GiB of
	// data.
	Snapshot       time.Duration
	SnapshotPerGiB time.Duration
	// ImageCreate is the time from registering to available.
	ImageCreate time.Duration
	// Copy and CopyPerGiB are the same for the copy of a snapshot. A copy of an image takes as long
	// as its slowest snapshot.
	Copy       time.Duration
	CopyPerGiB time.Duration
	VMStart    time.Duration
	VMStop     time.Duration
	// Direct is the speed of the EBS direct APIs.
	Direct Direct
}

// Direct is the speed of the EBS direct APIs. A zero duration is none, and a zero rate has no
// limit.
type Direct struct {
	// Read and Write are the durations of a GetSnapshotBlock and a PutSnapshotBlock, List that of
	// a list.
	Read, Write, List time.Duration
	// Complete is the time from CompleteSnapshot to the completed snapshot.
	Complete time.Duration
	// Throughput is the largest number of bytes per second of one snapshot, in each direction.
	Throughput float64
	// The largest numbers of requests per second: reads and writes of one snapshot, reads and
	// writes of an account, lists, and StartSnapshot and CompleteSnapshot of an account. Each kind
	// of request counts by itself.
	SnapshotRequests, AccountRequests, ListRequests, StartRequests float64
}

// awsDirect returns the speed of the EBS direct APIs at AWS. Sources:
//
//   - the requests per second are the quotas of
//     https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html; the quota of an
//     account is 1,000 or 5,000 by region, and taken as 5,000;
//   - the duration of a write, 100 ms, and the throughput, 500 MB/s, are those with which
//     https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-performance.html calculates. Tools
//     that read snapshots have measured 422 to 480 MB/s.
//
// The durations of a read, of a list and of the completion are estimates.
func awsDirect() Direct {
	return Direct{
		Read: 50 * time.Millisecond, Write: 100 * time.Millisecond, List: 100 * time.Millisecond,
		Complete:   10 * time.Second,
		Throughput: 500e6, SnapshotRequests: 1000, AccountRequests: 5000, ListRequests: 50, StartRequests: 10,
	}
}

// times multiplies the durations and divides the rates. A factor of 0 removes all limits.
func (d Direct) times(scale float64) Direct {
	for _, t := range []*time.Duration{&d.Read, &d.Write, &d.List, &d.Complete} {
		*t = time.Duration(float64(*t) * scale)
	}
	for _, rate := range []*float64{&d.Throughput, &d.SnapshotRequests, &d.AccountRequests, &d.ListRequests, &d.StartRequests} {
		if scale == 0 {
			*rate = 0
			continue
		}
		*rate /= scale
	}
	return d
}

// Instant returns the timing of a cloud in which everything is immediate.
func Instant() Timing { return Timing{} }

// AWS returns approximately the timing of EC2, multiplied by scale. EC2 documents none of these
// durations, and two are based on public observations:
//
//   - a small snapshot: "about 3 minutes" in github.com/aws/aws-sdk-ruby issue 978
//     (2015), one minute to nine by the volume's throughput in
//     github.com/supabase/postgres pull 2457 (2026). Taken as half a minute and
//     20 s per GiB;
//   - a snapshot and its copy: 153 s for the test of
//     github.com/hashicorp/terraform-provider-aws pull 40336 (2024), both
//     together.
//
// The others are estimates; for the EBS direct APIs see awsDirect.
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
		Direct:  awsDirect(),
	}.times(scale)
}

// Outscale returns approximately the timing of Outscale's cloud, multiplied by scale. One
// duration is based on a public observation: a snapshot of a small volume took more than 20 s in
// github.com/outscale/terraform-provider-outscale issue 514 (2025). The others are estimates.
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
	t.Direct = t.Direct.times(scale)
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

// Measurer is an optional interface of Disks: it returns the number of written bytes in a
// snapshot. Without it, every snapshot counts as full.
type Measurer interface {
	SnapshotBytes(id string) (int64, error)
}

// written returns the amount of data in a snapshot, which determines how long the snapshot takes.
func (c *Cloud) written(id string, sizeGiB int64) int64 {
	if m, ok := c.disks.(Measurer); ok {
		if n, err := m.SnapshotBytes(id); err == nil {
			return n
		}
	}
	return sizeGiB << 30
}
