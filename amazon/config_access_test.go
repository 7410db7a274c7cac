package amazon

import (
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// prepared returns the configuration of the basic example with other options.
func prepared(t *testing.T, more map[string]any) (*Config, []string) {
	t.Helper()
	var c Config
	warnings, err := c.Prepare(with(t, more))
	if err != nil {
		t.Fatal(err)
	}
	return &c, warnings
}

// TestPolling checks that the template takes precedence over the environment. A number of
// attempts alone sets the time limit, and does not make the polling less frequent.
func TestPolling(t *testing.T) {
	fixed := func(interval time.Duration, attempts int) bake.Waits { return bake.Waits{}.Polled(interval, attempts) }
	limited := func(p time.Duration) bake.Waits {
		pace := bake.Pace{Limit: p}
		return bake.Waits{Volume: pace, Attachment: pace, Snapshot: pace, Image: pace, Copy: pace}
	}
	for name, test := range map[string]struct {
		give            map[string]any
		delay, attempts string
		want            bake.Waits
	}{
		"nothing":                 {nil, "", "", bake.Waits{}},
		"both":                    {map[string]any{"delay_seconds": 30, "max_attempts": 50}, "", "", fixed(30*time.Second, 50)},
		"both of the environment": {nil, "7", "9", fixed(7*time.Second, 9)},
		"the template goes first": {map[string]any{"delay_seconds": 30, "max_attempts": 50}, "7", "9", fixed(30*time.Second, 50)},
		"one of each":             {map[string]any{"delay_seconds": 30}, "", "9", fixed(30*time.Second, 9)},
		"a delay":                 {map[string]any{"delay_seconds": 30}, "", "", fixed(30*time.Second, 0)},
		"attempts":                {map[string]any{"max_attempts": 4}, "", "", limited(time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_POLL_DELAY_SECONDS", test.delay)
			t.Setenv("AWS_MAX_ATTEMPTS", test.attempts)
			more := map[string]any{}
			if test.give != nil {
				more["aws_polling"] = test.give
			}
			c, _ := prepared(t, more)
			if got := c.AWSPolling.waits(); got != test.want {
				t.Errorf("the build waits as\n%+v, want\n%+v", got, test.want)
			}
		})
	}
}

func TestInvalidPollingVariables(t *testing.T) {
	for variable, value := range map[string]string{"AWS_POLL_DELAY_SECONDS": "soon", "AWS_MAX_ATTEMPTS": "-1"} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			var c Config
			if _, err := c.Prepare(with(t, nil)); err == nil || !strings.Contains(err.Error(), variable+" is") || !strings.Contains(err.Error(), value) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAccessOptionsThatDoNothingAreWarnings(t *testing.T) {
	for want, give := range map[string]map[string]any{
		"assume_role": {"assume_role": map[string]any{"session_name": "packer"}},
	} {
		if _, warnings := prepared(t, give); len(warnings) != 1 || !strings.Contains(warnings[0], want) {
			t.Errorf("%s: warnings %q", want, warnings)
		}
	}
}
