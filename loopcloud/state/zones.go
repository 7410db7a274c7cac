package state

import "cmp"

// zoneLetters holds the last letters of the zones of regions that do not have exactly a, b and c.
// In ap-northeast-1, AWS shows b to old accounts only, and Outscale has a and b.
var zoneLetters = map[string]string{
	"us-east-1":      "abcdef",
	"us-west-2":      "abcd",
	"ap-northeast-1": "abcd",
	"ap-northeast-2": "abcd",
	"ca-central-1":   "abd",
}

// zonesOf returns the names of the zones of a region, as AWS has them.
func zonesOf(region string) []string {
	var zones []string
	for _, letter := range cmp.Or(zoneLetters[region], "abc") {
		zones = append(zones, region+string(letter))
	}
	return zones
}
