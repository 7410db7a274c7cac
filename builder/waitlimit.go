package builder

import (
	"fmt"
	"os"
	"time"
)

// waitLimitEnv is the variable that limits every wait without progress. Without it each kind of
// wait has a limit of its own.
const waitLimitEnv = "PACKER_CHROOT_PATIENCE"

// minWaitLimit is the shortest useful limit: a cloud under load takes about as long to respond.
const minWaitLimit = time.Second

// The usual time limits of a response of the cloud's API, without which a dead connection would
// hold a build forever. See ResponseLimit.
const (
	// FirstByteTimeout is for the time until the response begins.
	FirstByteTimeout = time.Minute
	// ResponseTimeout is for the request and its whole response: some lists are long, and some
	// proxies stop in the middle.
	ResponseTimeout = 2 * time.Minute
)

// readWaitLimit reads the limit; 0 means that there is none.
func readWaitLimit() (time.Duration, error) {
	text := os.Getenv(waitLimitEnv)
	if text == "" {
		return 0, nil
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit < minWaitLimit {
		return 0, fmt.Errorf("%s is %q, but must be a time of %v or more, such as 90s or 1h30m", waitLimitEnv, text, minWaitLimit)
	}
	return limit, nil
}

// WaitLimit returns the time limit of each wait without progress. 0 means that each kind of wait
// has its own.
func (c *Config) WaitLimit() time.Duration { return c.waitLimit }

// ResponseLimit returns the time limit of a response of the cloud's API: usual, or less if the wait
// limit would not allow several attempts. A wait limit of 0 means none.
func ResponseLimit(usual, waitLimit time.Duration) time.Duration {
	if waitLimit == 0 {
		return usual
	}
	return min(usual, waitLimit/4)
}
