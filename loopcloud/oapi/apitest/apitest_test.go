package apitest_test

import (
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
)

// TestRequestsAndResponses checks that valid requests and responses are accepted, and invalid
// ones are not.
func TestRequestsAndResponses(t *testing.T) {
	d, err := apitest.Load()
	if err != nil {
		t.Fatal(err)
	}
	const ok = 200
	for _, test := range []struct {
		name, call, request, answer string
		status                      int
		right                       bool
	}{
		{name: "a call", call: "DeleteVolume", request: `{"VolumeId": "vol-1"}`, right: true},
		{name: "no such call", call: "EatVolume", request: `{}`},
		{name: "no such field", call: "DeleteVolume", request: `{"VolumeId": "vol-1", "Force": true}`},
		{name: "a field is missing", call: "DeleteVolume", request: `{}`},
		{name: "a field of another type", call: "DeleteVolume", request: `{"VolumeId": 1}`},
		{name: "a documented value", call: "CreateVolume", request: `{"SubregionName": "eu-west-2a", "VolumeType": "gp2"}`, right: true},
		{name: "a value outside of its documented set", call: "CreateVolume", request: `{"SubregionName": "eu-west-2a", "VolumeType": "gp3"}`},
		{name: "a value outside of an enumeration", call: "CreateImage", request: `{"BootModes": ["bios"]}`},
		{name: "no JSON", call: "DeleteVolume", request: `vol-1`},
		{name: "an answer", call: "CreateVolume", status: ok, answer: `{"Volume": {"VolumeId": "vol-1", "Size": 4}}`, right: true},
		{name: "an answer with more", call: "CreateVolume", status: ok, answer: `{"Volume": {"VolumeId": "vol-1", "Colour": "red"}}`},
		{name: "a state that is none", call: "CreateVolume", status: ok, answer: `{"Volume": {"State": "tired"}}`},
		{name: "an error", call: "CreateVolume", status: 400, answer: `{"Errors": [{"Code": "4104", "Type": "InvalidParameterValue", "Details": ""}]}`, right: true},
		{name: "throttled", call: "CreateVolume", status: 503, answer: `{"Errors": [{"Code": "6"}]}`, right: true},
		{name: "no error", call: "CreateVolume", status: 400, answer: `{"Volume": {}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var err error
			if test.request != "" {
				err = d.Request(test.call, []byte(test.request))
			} else {
				err = d.Answer(test.call, test.status, []byte(test.answer))
			}
			if (err == nil) != test.right {
				t.Errorf("it is %v that this is right: %v", test.right, err)
			}
		})
	}
}
