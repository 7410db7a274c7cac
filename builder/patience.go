package builder

import (
	"fmt"
	"os"
	"time"
)

// patienceEnv is the variable that limits every wait without progress. Without it each kind of
// wait has a limit of its own.
const patienceEnv = "PACKER_CHROOT_PATIENCE"

// leastPatience is the shortest limit that a cloud can keep: it takes about as long
// to answer under load.
const leastPatience = time.Second

// patience reads the limit; 0 means that there is none.
func patience() (time.Duration, error) {
	text := os.Getenv(patienceEnv)
	if text == "" {
		return 0, nil
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit < leastPatience {
		return 0, fmt.Errorf("%s is %q, but must be a time of %v or more, such as 90s or 1h30m", patienceEnv, text, leastPatience)
	}
	return limit, nil
}

// Patience is how long the build waits for one thing that does not get on; 0 leaves
// it to each kind of wait.
func (c *Config) Patience() time.Duration { return c.patience }

// AnswerLimit is how long an answer of the cloud's API may take: usually, or so that
// the patience lasts for several.
func AnswerLimit(usual, patience time.Duration) time.Duration {
	if patience == 0 {
		return usual
	}
	return min(usual, patience/4)
}
