package state_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

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
