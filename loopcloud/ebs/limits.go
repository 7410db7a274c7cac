package ebs

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// kind is a kind of request, for which its own limits hold.
type kind string

const (
	starting   kind = "StartSnapshot"
	completing kind = "CompleteSnapshot"
	listing    kind = "ListSnapshotBlocks"
	comparing  kind = "ListChangedBlocks"
	getting    kind = "GetSnapshotBlock"
	putting    kind = "PutSnapshotBlock"
)

// The messages of throttled requests.
const (
	accountThrottled  = "The request rate of the account exceeds its limit"
	snapshotThrottled = "The request rate of the snapshot exceeds its limit"
)

// limits slows requests down and refuses those above the rates of the API. Its clock is that of
// the machine, because clients wait by it too.
type limits struct {
	state.Direct
	mu      sync.Mutex
	buckets map[string]*bucket
	// free holds the time at which the last transfer of a snapshot ends, by kind and snapshot.
	free map[string]time.Time
}

func newLimits(d state.Direct) *limits {
	return &limits{Direct: d, buckets: map[string]*bucket{}, free: map[string]time.Time{}}
}

// bucket counts the requests of a kind: a token is added 1/rate seconds after the last one, up to
// the number of one second.
type bucket struct {
	tokens float64
	at     time.Time
}

// take takes a token, and reports whether there was one.
func (b *bucket) take(rate float64, now time.Time) bool {
	b.tokens = min(max(rate, 1), b.tokens+rate*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// wait waits as long as a request takes in the cloud. It returns an error if the request exceeds a
// rate or its client is gone.
func (l *limits) wait(ctx context.Context, k kind, caller state.Caller, snapshot string) error {
	now := time.Now()
	if err := l.admit(k, caller, snapshot, now); err != nil {
		return err
	}
	until := now.Add(l.latency(k))
	if k == getting || k == putting {
		until = later(until, l.transfer(string(k)+" "+snapshot, now))
	}
	return sleep(ctx, time.Until(until))
}

// admit returns an error if a request exceeds a rate.
func (l *limits) admit(k kind, caller state.Caller, snapshot string, now time.Time) error {
	perAccount := l.ListRequests
	switch k {
	case starting, completing:
		perAccount = l.StartRequests
	case getting, putting:
		perAccount = l.AccountRequests
		if !l.take(string(k)+" "+snapshot, l.SnapshotRequests, now) {
			return refuse(http.StatusBadRequest, throttled, "RESOURCE_LEVEL_THROTTLE", snapshotThrottled)
		}
	case listing, comparing:
	}
	if !l.take(string(k)+" "+caller.Account+" "+caller.Region, perAccount, now) {
		return refuse(http.StatusBadRequest, throttled, "ACCOUNT_THROTTLED", accountThrottled)
	}
	return nil
}

// take takes a token from a bucket, and reports whether there was one. A rate of 0 has no limit.
func (l *limits) take(key string, rate float64, now time.Time) bool {
	if rate == 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		l.forget(now)
		b = &bucket{tokens: max(rate, 1), at: now}
		l.buckets[key] = b
	}
	return b.take(rate, now)
}

// forget removes the buckets and transfers that no longer have an effect.
func (l *limits) forget(now time.Time) {
	for key, b := range l.buckets {
		if now.Sub(b.at) > time.Minute {
			delete(l.buckets, key)
		}
	}
	for key, end := range l.free {
		if end.Before(now) {
			delete(l.free, key)
		}
	}
}

// transfer returns the time at which a block has been transferred, after those before it.
func (l *limits) transfer(key string, now time.Time) time.Time {
	if l.Throughput == 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	free, known := l.free[key]
	if !known {
		l.forget(now)
	}
	end := later(free, now).Add(time.Duration(state.BlockSize / l.Throughput * float64(time.Second)))
	l.free[key] = end
	return end
}

// latency returns the duration of a request.
func (l *limits) latency(k kind) time.Duration {
	switch k {
	case getting:
		return l.Read
	case putting:
		return l.Write
	case listing, comparing:
		return l.List
	case starting, completing:
	}
	return 0
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sleep waits for a duration or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
