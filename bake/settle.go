package bake

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/event"
)

// ErrUnsettled is wrapped by the error of a changing call of a Cloud that is refused for a
// temporary reason. Above all, a changing call may not know yet what a reading call has shown: a
// new resource may not exist for it, or be in an earlier state. To add a refusal that always
// passes, see Passes in the clouds' tables of operations (retry.go).
var ErrUnsettled = errors.New("not yet")

// ErrNameTaken is wrapped by Cloud.Register, Copy and Restore if another image has the
// name, or may have it.
var ErrNameTaken = errors.New("image name is in use")

// Unsettled marks an error as ErrUnsettled and leaves its text as it is.
func Unsettled(err error) error { return marked{err, ErrUnsettled} }

// NameTaken marks an error as ErrNameTaken and leaves its text as it is.
func NameTaken(err error) error { return marked{err, ErrNameTaken} }

// marked is an error that wraps another one without naming it.
type marked struct {
	error
	mark error
}

// Unwrap implements the method that package errors looks for.
func (m marked) Unwrap() []error { return []error{m.error, m.mark} }

// tries counts the attempts of one call.
type tries struct {
	pace     Pace
	begun    time.Time
	interval time.Duration
	n        int
}

// try begins the attempts of a call.
func (p Pace) try() *tries { return &tries{pace: p, begun: time.Now(), interval: p.First} }

// again waits before the next attempt. It returns an error that ends the attempts: the
// refusal if the time limit is used up, or the end of ctx. Neither wraps the refusal's marks.
func (t *tries) again(ctx context.Context, what string, refused error) error {
	t.n++
	took := time.Since(t.begun)
	event.Emit(ctx, event.Wait{What: what, State: "refused", Looks: t.n, Took: took})
	if t.pace.spent(t.n, took) {
		return fmt.Errorf("%v; gave up after %d tries in %s", refused, t.n, took.Round(time.Second)) //nolint:errorlint // it is final by now
	}
	if err := sleep(ctx, t.pace.jitter(t.interval)); err != nil {
		return fmt.Errorf("%v; not tried again: %w", refused, err) //nolint:errorlint // only the end of ctx matters now
	}
	t.interval = min(t.interval+t.interval/2, t.pace.Longest)
	return nil
}

// settling makes the changing calls of a Cloud again as long as they are unsettled.
type settling struct {
	Cloud
	pace Pace
	// say, if not nil, is told of the first refusal of a call.
	say func(format string, args ...any)
}

// settled returns the cloud as one whose changing calls are made again.
func settled(cloud Cloud, pace Pace, report Reporter) Cloud {
	if _, already := cloud.(settling); already || cloud == nil {
		return cloud
	}
	s := settling{Cloud: cloud, pace: pace}
	if report != nil {
		s.say = report.Detail
	}
	return s
}

// repeat makes a call until it is settled, or for as long as the pace allows. An error that
// wraps final ends it at once: somebody else deals with that.
func repeat[T any](ctx context.Context, s settling, what string, final error, call func() (T, error)) (T, error) {
	for tries := s.pace.try(); ; {
		x, err := call()
		if !errors.Is(err, ErrUnsettled) || final != nil && errors.Is(err, final) {
			return x, err
		}
		if s.say != nil && tries.n == 0 {
			s.say("trying again for up to %s (%s): %v", s.pace.Limit, what, err)
		}
		if stop := tries.again(ctx, what, err); stop != nil {
			return x, stop
		}
	}
}

// done is repeat for a call that returns an error only.
func (s settling) done(ctx context.Context, what string, final error, call func() error) error {
	_, err := repeat(ctx, s, what, final, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

// settlingStore makes the changing calls of a BlockStore again as long as they are unsettled. An Upload
// is not repeated: it waits by itself until the new snapshot is known, block by block, and after any
// other failure all blocks would be uploaded again.
type settlingStore struct {
	BlockStore
	settling settling
}

func (s settlingStore) Start(ctx context.Context, spec StartSpec) (SnapshotID, error) {
	return repeat(ctx, s.settling, "a snapshot based on "+string(spec.Parent), nil, func() (SnapshotID, error) { return s.BlockStore.Start(ctx, spec) })
}

func (s settlingStore) Unmark(ctx context.Context, id SnapshotID) error {
	return s.settling.done(ctx, "the tags of "+string(id), nil, func() error { return s.BlockStore.Unmark(ctx, id) })
}

func (s settling) In(region string) Cloud {
	s.Cloud = s.Cloud.In(region)
	return s
}

func (s settling) CreateVolume(ctx context.Context, spec VolumeSpec) (VolumeID, error) {
	return repeat(ctx, s, "a volume of "+string(spec.Snapshot), nil, func() (VolumeID, error) { return s.Cloud.CreateVolume(ctx, spec) })
}

func (s settling) Tag(ctx context.Context, id string, tags map[string]string) error {
	return s.done(ctx, "the tags of "+id, nil, func() error { return s.Cloud.Tag(ctx, id, tags) })
}

func (s settling) DeleteVolume(ctx context.Context, id VolumeID) error {
	return s.done(ctx, "the deletion of "+string(id), nil, func() error { return s.Cloud.DeleteVolume(ctx, id) })
}

func (s settling) Attach(ctx context.Context, id VolumeID, host HostID, name DeviceName) error {
	return s.done(ctx, "the attachment of "+string(id), ErrDeviceTaken, func() error { return s.Cloud.Attach(ctx, id, host, name) })
}

func (s settling) Detach(ctx context.Context, id VolumeID, host HostID) error {
	return s.done(ctx, "the detachment of "+string(id), nil, func() error { return s.Cloud.Detach(ctx, id, host) })
}

func (s settling) CreateSnapshot(ctx context.Context, spec SnapshotSpec) (SnapshotID, error) {
	return repeat(ctx, s, "a snapshot of "+string(spec.Volume), nil, func() (SnapshotID, error) { return s.Cloud.CreateSnapshot(ctx, spec) })
}

func (s settling) DeleteSnapshot(ctx context.Context, id SnapshotID) error {
	return s.done(ctx, "the deletion of "+string(id), nil, func() error { return s.Cloud.DeleteSnapshot(ctx, id) })
}

func (s settling) Register(ctx context.Context, spec ImageSpec) (ImageID, error) {
	return repeat(ctx, s, "an image of "+string(spec.Snapshot), ErrNameTaken, func() (ImageID, error) { return s.Cloud.Register(ctx, spec) })
}

func (s settling) Deregister(ctx context.Context, id ImageID) error {
	return s.done(ctx, "the deregistration of "+string(id), nil, func() error { return s.Cloud.Deregister(ctx, id) })
}

func (s settling) Copy(ctx context.Context, spec CopySpec) (ImageID, error) {
	return repeat(ctx, s, "a copy of "+string(spec.Source), ErrNameTaken, func() (ImageID, error) { return s.Cloud.Copy(ctx, spec) })
}

func (s settling) Publish(ctx context.Context, spec PublishSpec) error {
	return s.done(ctx, "the permissions of "+string(spec.Image), nil, func() error { return s.Cloud.Publish(ctx, spec) })
}

func (s settling) Unguard(ctx context.Context, id ImageID) error {
	return s.done(ctx, "the protection of "+string(id), nil, func() error { return s.Cloud.Unguard(ctx, id) })
}

func (s settling) Restore(ctx context.Context, r Record) (ImageID, error) {
	return repeat(ctx, s, "the restoration of "+string(r.Image), nil, func() (ImageID, error) { return s.Cloud.Restore(ctx, r) })
}

func (s settling) Regain(ctx context.Context, r Record, id ImageID) error {
	return s.done(ctx, "the permissions of "+string(id), nil, func() error { return s.Cloud.Regain(ctx, r, id) })
}
