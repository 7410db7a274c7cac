package state

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
)

// What clouds tell of a thing and loopcloud does not keep, because it follows
// from a name.

// PrivateIP is a VM's address within its cloud: one in 10.0.0.0/8 that follows
// from its id. Nothing answers there.
func (vm VM) PrivateIP() netip.Addr {
	sum := sha256.Sum256([]byte(vm.ID))
	return netip.AddrFrom4([4]byte{10, sum[0], sum[1], 4 + sum[2]%250})
}

// PrivateDNS is the name that EC2 gives to that address.
func (vm VM) PrivateDNS() string {
	return "ip-" + strings.ReplaceAll(vm.PrivateIP().String(), ".", "-") + "." + vm.Region + ".compute.internal"
}

// ZoneID is EC2's name of a zone that is the same for every account, such as
// use1-az1 for us-east-1a: the region in short, and the zone's letter as a
// number. It is "" for a zone whose name has no letter at its end.
func ZoneID(zone string) string {
	if zone == "" || zone[len(zone)-1] < 'a' || zone[len(zone)-1] > 'z' {
		return ""
	}
	region, letter := zone[:len(zone)-1], zone[len(zone)-1]
	return fmt.Sprintf("%s-az%d", shortRegion(region), letter-'a'+1)
}

// shortRegion is a region's name with its middle parts cut to their initials;
// those with two directions have two.
func shortRegion(region string) string {
	parts := strings.Split(region, "-")
	for i := 1; i < len(parts)-1; i++ {
		part := parts[i]
		parts[i] = part[:min(1, len(part))]
		for _, second := range []string{"east", "west"} {
			if part != second && strings.HasSuffix(part, second) {
				parts[i] += second[:1]
			}
		}
	}
	return strings.Join(parts, "")
}
