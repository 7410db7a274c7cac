package oapi

import (
	"regexp"
	"strings"
)

// idDigits is how many hexadecimal digits an id of the Outscale API has.
const idDigits = 8

// anyID is an id of this API, or of EC2, which shares the state.
var anyID = regexp.MustCompile(`^(vol|snap|ami|i)-([0-9a-f]{8}|[0-9a-f]{17})$`)

// checkID refuses what is no id, or not one of this prefix.
func checkID(prefix, id string) error {
	if !anyID.MatchString(id) || prefix != "" && !strings.HasPrefix(id, prefix+"-") {
		return malformedID.with("the value %q is no id", id)
	}
	return nil
}
