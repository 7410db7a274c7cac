package state_test

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

func TestZoneID(t *testing.T) {
	for zone, want := range map[string]string{
		"us-east-1a":           "use1-az1",
		"eu-west-2b":           "euw2-az2",
		"ap-southeast-2c":      "apse2-az3",
		"ap-northeast-1d":      "apne1-az4",
		"ca-central-1a":        "cac1-az1",
		"us-gov-west-1b":       "usgw1-az2",
		"cloudgouv-eu-west-1a": "cloudgouvew1-az1",
		"us-west-2-lax-1a":     "usw2-lax1-az1",
		"us-east-1-atl-2a":     "use1-atl2-az1",
		"zone1":                "",
		"":                     "",
		"a":                    "-az1",
		"--a":                  "-az1",
	} {
		if got := state.ZoneID(zone); got != want {
			t.Errorf("%s: got %q, want %q", zone, got, want)
		}
	}
}
