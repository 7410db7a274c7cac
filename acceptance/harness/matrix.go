package harness

import (
	"os"
	"strconv"
	"time"
)

// All says that every point of every matrix is wanted: make matrix. Otherwise it
// is a share of them, of every fault and of every point some.
var All = os.Getenv("ALL") != ""

// Seed is what random choices are made by: the same again with SEED.
var Seed = func() uint64 {
	if n, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return n
	}
	return uint64(time.Now().UnixNano())
}()
