package state

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"regexp"
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
// number. That of the Local Zone us-west-2-lax-1a is usw2-lax1-az1. It is "" for a
// zone whose name has no letter at its end.
func ZoneID(zone string) string {
	if zone == "" || zone[len(zone)-1] < 'a' || zone[len(zone)-1] > 'z' {
		return ""
	}
	region, letter, place := zone[:len(zone)-1], zone[len(zone)-1], ""
	if found := localZone.FindStringSubmatch(zone); found != nil {
		region, place = found[1], "-"+found[2]+found[3]
	}
	return fmt.Sprintf("%s%s-az%d", shortRegion(region), place, letter-'a'+1)
}

// localZone matches the name of a Local Zone: its region, a city and a number.
// https://docs.aws.amazon.com/local-zones/latest/ug/available-local-zones.html
var localZone = regexp.MustCompile(`^([a-z]+(?:-[a-z]+)+-[0-9]+)-([a-z]{3})-([0-9]+)[a-z]$`)

// IsLocalZone reports whether a zone's name is that of a Local Zone.
func IsLocalZone(zone string) bool { return localZone.MatchString(zone) }

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
