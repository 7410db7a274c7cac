package state_test

import (
	"net/netip"
	"strings"
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

func TestPrivateIP(t *testing.T) {
	one, two := state.VM{ID: "i-11111111"}, state.VM{ID: "i-22222222"}
	again := state.VM{ID: one.ID}
	if one.PrivateIP() != again.PrivateIP() || one.PrivateIP() == two.PrivateIP() {
		t.Errorf("got %s and %s", one.PrivateIP(), two.PrivateIP())
	}
	if ten := netip.MustParsePrefix("10.0.0.0/8"); !ten.Contains(one.PrivateIP()) {
		t.Errorf("%s is not in %s", one.PrivateIP(), ten)
	}
	one.Region = "eu-west-2"
	if name := one.PrivateDNS(); !strings.HasPrefix(name, "ip-10-") || !strings.HasSuffix(name, ".eu-west-2.compute.internal") {
		t.Errorf("its name is %s", name)
	}
}
