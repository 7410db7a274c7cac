package oapi_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// TestNullIsAbsent checks that a field or a filter that is null has no effect. The public Packer
// plugin sends both for owners and global_permission.
func TestNullIsAbsent(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	// The API's description forbids null, so these requests are not checked against it.
	unchecked := oapi.New(c.state, func(*http.Request, []byte, string) (state.Caller, error) { return mine, nil })
	post := func(call, body string) (int, map[string]any) {
		return answerOf(t, unchecked, httptest.NewRequest(http.MethodPost, "/api/v1/"+call, strings.NewReader(body)))
	}
	snapshot := c.snapshot()
	image := c.image("null", snapshot)
	for _, test := range []struct{ call, body string }{
		{"ReadVolumes", `{"DryRun":null,"Filters":null,"NextPageToken":null,"ResultsPerPage":null}`},
		{"ReadVolumes", `{"Filters":{"VolumeIds":null,"LinkVolumeDeleteOnVmDeletion":null,"CreationDates":null,"VolumeSizes":null}}`},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":1,"Iops":null,"SnapshotId":null,"VolumeType":null}`},
		{"CreateImage", `{"ImageName":"of nulls","RootDeviceName":"/dev/sda1","BootModes":null,"BlockDeviceMappings":
			[{"DeviceName":"/dev/sda1","VirtualDeviceName":null,"Bsu":{"SnapshotId":"` + snapshot + `","Iops":null,"VolumeSize":null}}]}`},
		{"UpdateImage", `{"ImageId":"` + image + `","PermissionsToLaunch":{"Additions":{"AccountIds":null,"GlobalPermission":true},"Removals":null}}`},
	} {
		if status, got := post(test.call, test.body); status != 200 {
			t.Errorf("%s %s: %d %v", test.call, test.body, status, got)
		}
	}
	status, got := post("ReadImages", `{"Filters":{"AccountIds":null,"AccountAliases":["somebody"]}}`)
	if images, _ := got["Images"].([]any); status != 200 || len(images) != 0 {
		t.Errorf("the other account's images: %d %v", status, got)
	}
	found := must[*osc.ReadImagesResponse](t)(c.client("AKOTHER", secret).ReadImages(t.Context(), osc.ReadImagesRequest{}))
	if len(*found.Images) != 1 || (*found.Images)[0].ImageId != image {
		t.Errorf("public are %+v, want %s", *found.Images, image)
	}
}
