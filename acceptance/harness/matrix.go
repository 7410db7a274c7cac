package harness

import (
	"os"
	"strconv"
	"time"
)

// All says that all points of all matrices run, as in make matrix. Otherwise a share of them runs.
var All = os.Getenv("ALL") != ""

// Seed is the seed of random choices. SEED repeats a run.
var Seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}()
