package oapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi/apitest"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// encoded returns a request or a response as JSON.
func encoded(t *testing.T, body map[string]any) string {
	t.Helper()
	return string(must[[]byte](t)(json.Marshal(body)))
}

// TestUnknownParameters sends an unknown parameter and, to calls with filters, an unknown filter.
func TestUnknownParameters(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	for _, call := range oapi.Calls() {
		bodies := []string{`{"Colour":"red"}`}
		if _, ok := oapi.Parameters(call)["Filters"]; ok {
			bodies = append(bodies, `{"Filters":{"Colour":["red"]}}`)
		}
		for _, body := range bodies {
			status, got := c.post(call, body)
			if r := refusal(status, got); r != "400 InvalidParameter/3001" || !strings.Contains(fmt.Sprint(got["Errors"]), "Colour") {
				t.Errorf("%s %s: got %s %v", call, body, r, got)
			}
		}
	}
}

// TestMissingParameters omits each required parameter of every call.
func TestMissingParameters(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	for _, call := range oapi.Calls() {
		for _, missing := range oapi.RequiredParameters(call) {
			body := map[string]any{}
			for _, name := range oapi.RequiredParameters(call) {
				body[name] = oapi.Parameters(call)[name]
			}
			delete(body, missing)
			status, got := c.post(call, encoded(t, body))
			if r := refusal(status, got); r != "400 MissingParameter/7000" || !strings.Contains(fmt.Sprint(got["Errors"]), missing) {
				t.Errorf("%s without %s: got %s %v", call, missing, r, got)
			}
		}
	}
}

// TestParametersOfTheDescription checks that the API's description has every call, and every
// parameter that it accepts. The sample values need not be valid.
func TestParametersOfTheDescription(t *testing.T) {
	described := must[*apitest.Description](t)(apitest.Load())
	for _, call := range oapi.Calls() {
		err := described.Request(call, []byte(encoded(t, oapi.Parameters(call))))
		if err != nil && (strings.Contains(err.Error(), "unsupported") || strings.Contains(err.Error(), "has no call")) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// dryRuns returns a request for every call. It has the required parameters of the call, and
// those that a request needs besides them.
func (c *testCloud) dryRuns() map[string]map[string]any {
	c.t.Helper()
	volume, snapshot, linked := c.volume(), c.snapshot(), c.volume()
	image := c.image("an image", snapshot)
	must[*osc.LinkVolumeResponse](c.t)(c.LinkVolume(c.t.Context(), osc.LinkVolumeRequest{VolumeId: linked, VmId: c.host(), DeviceName: "/dev/sdx"}))
	public := map[string]any{"Additions": map[string]any{"GlobalPermission": true}}
	values := map[string]any{
		"VolumeId": volume, "SnapshotId": snapshot, "ImageId": image, "VmId": c.host(), "DeviceName": "/dev/sdb", "SubregionName": zone,
		"ResourceIds": []string{volume}, "Tags": []map[string]string{{"Key": "k", "Value": "v"}}, "PermissionsToCreateVolume": public,
	}
	own := map[string]map[string]any{
		"CreateVolume":   {"Size": 1},
		"UpdateVolume":   {"Size": 9},
		"UnlinkVolume":   {"VolumeId": linked},
		"CreateSnapshot": {"VolumeId": volume},
		"DeleteSnapshot": {"SnapshotId": c.snapshot()},
		"CreateImage":    {"SourceImageId": image, "ImageName": "a copy", "SourceRegionName": home},
		"UpdateImage":    {"PermissionsToLaunch": public},
	}
	requests := map[string]map[string]any{}
	for _, call := range oapi.Calls() {
		requests[call] = map[string]any{"DryRun": true}
		for _, name := range oapi.RequiredParameters(call) {
			requests[call][name] = values[name]
		}
		maps.Copy(requests[call], own[call])
	}
	return requests
}

// TestDryRun checks that a dry run that would succeed returns only the context, and changes
// nothing.
func TestDryRun(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	requests := c.dryRuns()
	before := c.all()
	for call, body := range requests {
		status, got := c.post(call, encoded(t, body))
		if checkContext(t, got); status != http.StatusOK || len(got) != 1 {
			t.Errorf("%s: %d %v", call, status, got)
		}
	}
	if after := c.all(); !reflect.DeepEqual(before, after) {
		t.Errorf("before: %v\nafter: %v", before, after)
	}
}

// all returns all resources.
func (c *testCloud) all() map[string]any {
	return map[string]any{
		"volumes": c.state.Volumes(mine), "snapshots": c.state.Snapshots(mine),
		"images": c.state.Images(mine), "tags": c.state.Tags(mine),
	}
}
