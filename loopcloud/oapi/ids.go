package oapi

import (
	"regexp"
	"strings"
)

// idDigits is the number of hexadecimal digits in an ID of the Outscale API.
const idDigits = 8

// anyID matches the IDs of this API and of EC2, which shares the state.
var anyID = regexp.MustCompile(`^(vol|snap|ami|i)-([0-9a-f]{8}|[0-9a-f]{17})$`)

// checkID returns an error if a text is not an ID with this prefix; "" is any prefix.
func checkID(prefix, id string) error {
	if !anyID.MatchString(id) || prefix != "" && !strings.HasPrefix(id, prefix+"-") {
		return malformedID.with("the value %q is not an ID", id)
	}
	return nil
}
