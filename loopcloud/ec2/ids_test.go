package ec2

import "testing"

func TestIDs(t *testing.T) {
	for _, id := range []interface{ Check() error }{
		volumeID("vol-01234567"), snapshotID("snap-0123456789abcdef0"), imageID("ami-01234567"), instanceID("i-01234567"),
	} {
		if err := id.Check(); err != nil {
			t.Errorf("%v: %v", id, err)
		}
	}
	for want, id := range map[string]interface{ Check() error }{
		`InvalidVolumeID.Malformed: Invalid id: "ami-01234567" (expecting "vol-...")`:       volumeID("ami-01234567"),
		`InvalidAMIID.Malformed: Invalid id: "ami-0123456" (expecting "ami-...")`:           imageID("ami-0123456"),
		`InvalidAMIID.Malformed: Invalid id: "ami-0123456789abcd" (expecting "ami-...")`:    imageID("ami-0123456789abcd"),
		`InvalidInstanceID.Malformed: Invalid id: "i-0123456G" (expecting "i-...")`:         instanceID("i-0123456G"),
		`InvalidSnapshotID.Malformed: Invalid id: "snap-0123456789" (expecting "snap-...")`: snapshotID("snap-0123456789"),
	} {
		if err := id.Check(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
