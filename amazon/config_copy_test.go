package amazon

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

func TestCopyOptionsWithoutEffectWarn(t *testing.T) {
	for want, give := range map[string]map[string]any{
		"more than once":                 {"ami_regions": []any{"us-east-1", "us-east-1"}},
		"eu-west-1":                      {"region": "eu-west-1", "ami_regions": []any{"eu-west-1", "us-east-1"}},
		"snapshot_copy_duration_minutes": {"snapshot_copy_duration_minutes": 15},
	} {
		if _, warnings := prepared(t, give); len(warnings) != 1 || !strings.Contains(warnings[0], want) {
			t.Errorf("%s: warnings %q", want, warnings)
		}
	}
}

// TestCopyTimeLimit checks that the build does not give up before the completion time that was
// requested from EC2.
func TestCopyTimeLimit(t *testing.T) {
	for name, test := range map[string]struct {
		give map[string]any
		want bake.Pace
	}{
		"as usual":    {nil, bake.Pace{}},
		"a short one": {map[string]any{"snapshot_copy_duration_minutes": 30}, bake.Pace{}},
		"two days":    {map[string]any{"snapshot_copy_duration_minutes": 2880}, bake.Pace{Limit: 48*time.Hour + 30*time.Minute}},
		"a longer limit of the user": {map[string]any{
			"snapshot_copy_duration_minutes": 180, "aws_polling": map[string]any{"max_attempts": 1440},
		}, bake.Pace{Limit: 6 * time.Hour}},
		"a user who counts": {map[string]any{
			"snapshot_copy_duration_minutes": 30, "aws_polling": map[string]any{"delay_seconds": 30, "max_attempts": 9},
		}, bake.Pace{First: 30 * time.Second, Longest: 30 * time.Second, Attempts: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			give := map[string]any{"region": "eu-west-1", "ami_regions": []any{"us-east-1"}}
			maps.Copy(give, test.give)
			c, _ := prepared(t, give)
			if got := c.waits().Copy; got != test.want {
				t.Errorf("copies are waited for as %+v, want %+v", got, test.want)
			}
		})
	}
}
