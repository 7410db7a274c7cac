package ebsdirect_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
)

// gate refuses requests above a number that are under way, as EBS does above a rate.
type gate struct {
	next    http.Handler
	allowed int

	mu                  sync.Mutex
	busy, most, refused int
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.busy++
	g.most = max(g.most, g.busy)
	full := g.busy > g.allowed
	if full {
		g.refused++
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.busy--
		g.mu.Unlock()
	}()
	time.Sleep(2 * time.Millisecond) // so that requests overlap
	if full {
		w.Header().Set("X-Amzn-Errortype", "RequestThrottledException")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"Message":"Too many requests","Reason":"RESOURCE_LEVEL_THROTTLE"}`)
		return
	}
	g.next.ServeHTTP(w, r)
}

// TestThrottlingIsShared: if EBS throttles some requests, all become fewer. An upload of many blocks
// then meets little throttling, and completes.
func TestThrottlingIsShared(t *testing.T) {
	for _, allowed := range []int{4, 1000} {
		w := newTestCloud(t)
		g := &gate{next: w.Server, allowed: allowed}
		server := httptest.NewServer(g)
		t.Cleanup(server.Close)
		c := clientOf(server.URL, "AKIAMINE", w.clock)
		const blocks = 200
		u := w.start(c, ebsdirect.Spec{Token: "token", SizeGiB: 1})
		var writers sync.WaitGroup
		for worker := range c.Parallel() {
			writers.Go(func() {
				for index := int64(worker); index < blocks; index += int64(c.Parallel()) {
					if err := u.Write(t.Context(), changed(index, filled(1))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if err := u.Complete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if g.most > c.Parallel() {
			t.Errorf("%d requests at a time", g.most)
		}
		switch {
		case allowed == 4 && (g.refused == 0 || g.refused > blocks/2 || c.Size() > 16):
			t.Errorf("%d of %d requests were throttled, and at last %d were made at a time", g.refused, blocks, c.Size())
		case allowed == 1000 && (g.refused > 0 || c.Size() != c.Parallel()):
			t.Errorf("without throttling, %d requests are made at a time, and %d were refused", c.Size(), g.refused)
		}
	}
}
