package fetch

import "testing"

// TestOrigins: a block counts once, and not if it was fetched as well. The last one is that of a volume of 64 TiB.
func TestOrigins(t *testing.T) {
	var o origins
	for _, index := range []int64{1<<27 - 1, 64, 63, 0} {
		o.opened(index)
		o.opened(index)
	}
	o.received(64)
	o.received(64)
	o.opened(64)
	o.received(65)
	if n := o.blocksFromCache(); n != 3 {
		t.Errorf("%d blocks are from the cache, want 3", n)
	}
}
