package harness

import (
	"os"
	"strconv"
	"time"
)

// All says that all points of all matrices run, as in make matrix. Otherwise a share of them runs.
var All = os.Getenv("ALL") != ""

// IsOfBlock reports whether an action transfers a block of a snapshot. A direct build calls it for each block.
func IsOfBlock(action string) bool {
	return action == "GetSnapshotBlock" || action == "PutSnapshotBlock"
}

// SampledBlocks is the number of a build's calls of such an action that are points of a matrix.
const SampledBlocks = 3

// Seed is the seed of random choices. SEED repeats a run. A SEED that is not a number ends the test process.
var Seed = func() uint64 {
	text := os.Getenv("SEED")
	if text == "" {
		return uint64(time.Now().UnixNano())
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic("SEED: " + err.Error())
	}
	return n
}()
