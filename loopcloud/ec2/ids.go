package ec2

import (
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
)

// The IDs in requests. Each has a type, so that the decoder refuses a malformed ID with EC2's
// code for it.
type (
	volumeID   string
	snapshotID string
	imageID    string
	instanceID string
	// snapshotSource is the volume of CreateSnapshot, which has its own code for a value that does
	// not begin like an ID. Source: github.com/cloudavail/aws-missing-tools issue 59.
	snapshotSource string
)

func (id snapshotSource) Check() error {
	if !strings.HasPrefix(string(id), "vol-") {
		return query.Refuse("InvalidParameterValue", "Value (%s) for parameter volumeId is invalid. Expected: 'vol-...'.", string(id))
	}
	return volumeID(id).Check()
}

func (id volumeID) Check() error {
	return checkID(string(id), "vol-", "InvalidVolumeID.Malformed")
}

func (id snapshotID) Check() error {
	return checkID(string(id), "snap-", "InvalidSnapshotID.Malformed")
}

func (id imageID) Check() error {
	return checkID(string(id), "ami-", "InvalidAMIID.Malformed")
}

func (id instanceID) Check() error {
	return checkID(string(id), "i-", "InvalidInstanceID.Malformed")
}

// checkID returns an error unless an ID is its prefix and 8 (the old form) or 17 hexadecimal
// digits.
func checkID(id, prefix, code string) error {
	digits, ok := strings.CutPrefix(id, prefix)
	hex := strings.Trim(digits, "0123456789abcdef") == ""
	if !ok || !hex || len(digits) != 8 && len(digits) != 17 {
		return query.Refuse(code, "Invalid id: %q (expecting \"%s...\")", id, prefix)
	}
	return nil
}

// plain returns IDs as strings.
func plain[ID ~string](ids []ID) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = string(id)
	}
	return out
}
