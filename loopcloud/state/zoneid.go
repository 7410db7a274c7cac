package state

import (
	"fmt"
	"regexp"
	"strings"
)

// ZoneID returns the name that EC2 gives a zone in every account, such as use1-az1 for
// us-east-1a: the short name of the region, and the letter of the zone as a number. The ID of the
// Local Zone us-west-2-lax-1a is usw2-lax1-az1. It is "" if the name of the zone does not end in
// a letter.
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

// IsLocalZone reports whether a zone is a Local Zone.
func IsLocalZone(zone string) bool { return localZone.MatchString(zone) }

// shortRegion returns a region's name with its middle parts cut to their initials. A part of two
// directions has two initials.
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
