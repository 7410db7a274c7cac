//go:build race

package lazydisk_test

// raceDetector reports whether this binary has the race detector, which needs memory of its own.
const raceDetector = true
