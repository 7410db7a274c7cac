package oapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/wire"
)

func contains(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// refusal returns the only error of a response as STATUS Type/Code.
func refusal(status int, a map[string]any) string {
	list, _ := a["Errors"].([]any)
	if len(list) != 1 {
		return strconv.Itoa(status)
	}
	e := list[0].(map[string]any)
	return fmt.Sprintf("%d %v/%v", status, e["Type"], e["Code"])
}

func TestRefusals(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	volume, snapshot := c.volume(), c.snapshot()
	image := c.image("taken", snapshot)
	const (
		unknown   = "400 InvalidParameter/3001"
		badType   = "400 InvalidParameterValue/4998"
		badValue  = "400 InvalidParameterValue/4999"
		malformed = "400 InvalidParameterValue/4104"
		missing   = "400 MissingParameter/7000"
	)
	root := func(bsu string) string {
		return `{"ImageName":"new","RootDeviceName":"/dev/sda1","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"` + snapshot + `"` + bsu + `}}]}`
	}
	with := func(devices string) string {
		return `{"ImageName":"new","RootDeviceName":"/dev/sda1","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"SnapshotId":"` + snapshot + `"}},` + devices + `]}`
	}
	tests := []struct{ call, body, want, details string }{
		{"ReadNets", `{}`, "404 InvalidAction/12000", "ReadNets"},
		{"readVolumes", `{}`, "404 InvalidAction/12000", ""},
		{"ReadVolumes", `{"Filters":{}`, "400 InvalidParameter/3999", ""},
		{"ReadVolumes", `{} {}`, "400 InvalidParameter/3999", ""},
		{"ReadVolumes", `[]`, badType, "object"},
		{"ReadVolumes", `null`, badType, "object"},
		{"ReadVolumes", `{"Filter":{}}`, unknown, "Filter"},
		{"ReadVolumes", `{"filters":{}}`, unknown, "filters"},
		{"ReadVolumes", `{"Filters":{"Colours":["red"]}}`, unknown, "Colours"},
		{"ReadVolumes", `{"Filters":{"VolumeIds":"vol-12345678"}}`, badType, "Filters.VolumeIds"},
		{"ReadVolumes", `{"Filters":{"VolumeIds":[1]}}`, badType, "Filters.VolumeIds"},
		{"ReadVolumes", `{"Filters":{"VolumeIds":[null]}}`, badType, "Filters.VolumeIds"},
		{"ReadVolumes", `{"Filters":{"VolumeIds":["vol-1"]}}`, malformed, "vol-1"},
		{"ReadVolumes", `{"Filters":{"VolumeSizes":["8"]}}`, badType, "Filters.VolumeSizes"},
		{"ReadVolumes", `{"Filters":{"VolumeSizes":[8.5]}}`, badType, ""},
		{"ReadVolumes", `{"Filters":{"LinkVolumeDeleteOnVmDeletion":[true]}}`, badType, ""},
		{"ReadVolumes", `{"Filters":{"CreationDates":["yesterday"]}}`, badValue, "yesterday"},
		{"ReadVolumes", `{"ResultsPerPage":0}`, badValue, "ResultsPerPage"},
		{"ReadVolumes", `{"ResultsPerPage":1001}`, badValue, ""},
		{"ReadVolumes", `{"NextPageToken":"?"}`, badValue, "NextPageToken"},
		{"ReadVolumes", `{"NextPageToken":"LTE="}`, badValue, ""},
		{"ReadVolumes", `{"DryRun":"yes"}`, badType, "DryRun"},
		{"ReadVolumes", `{"Filters":{"Colours":null}}`, unknown, "Colours"},
		{"ReadVolumes", `{"Colour":null}`, unknown, "Colour"},
		{"DeleteVolume", `{"VolumeId":null}`, missing, "VolumeId"},
		{"ReadAccounts", `{"Filters":{}}`, unknown, ""},
		{"ReadRegions", `{"ResultsPerPage":1}`, unknown, ""},
		{"ReadSubregions", `{"Filters":{"Moons":["x"]}}`, unknown, ""},
		{"ReadVms", `{"Filters":{"NetIds":["x"]}}`, unknown, "NetIds"},
		{"ReadTags", `{"Filters":{"Colours":["x"]}}`, unknown, ""},
		{"ReadImages", `{"Filters":{"SecureBoot":"no"}}`, badType, ""},
		{"ReadSnapshots", `{"Filters":{"FromCreationDate":["2026-07-01"]}}`, badType, ""},

		{"CreateVolume", `{"Size":1}`, missing, "SubregionName"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a"}`, missing, "Size"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":0}`, badValue, "Size"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":14902}`, badValue, "14901"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":1,"VolumeType":"gp3"}`, badValue, "gp3"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":1,"Iops":100}`, badValue, "io1"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":4,"VolumeType":"io1"}`, missing, "Iops"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":4,"VolumeType":"io1","Iops":1201}`, badValue, "300"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":4000,"VolumeType":"io1","Iops":13001}`, badValue, "13000"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","Size":4,"VolumeType":"io1","Iops":-1}`, badValue, "Iops"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","SnapshotId":"snap-zz"}`, malformed, "snap-zz"},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","SnapshotId":"snap-00000000"}`, "400 InvalidResource/5054", ""},
		{"CreateVolume", `{"SubregionName":"eu-west-2a","SnapshotId":"` + snapshot + `","Size":7}`, badValue, ""},

		{"UpdateVolume", `{}`, missing, "VolumeId"},
		{"UpdateVolume", `{"VolumeId":"` + volume + `"}`, missing, "Size"},
		{"UpdateVolume", `{"VolumeId":"` + volume + `","Size":7}`, badValue, "Size"},
		{"UpdateVolume", `{"VolumeId":"` + volume + `","VolumeType":"io1"}`, missing, "Iops"},
		{"UpdateVolume", `{"VolumeId":"` + volume + `","Iops":200}`, badValue, "io1"},
		{"UpdateVolume", `{"VolumeId":"vol-00000000","Size":9}`, "400 InvalidResource/5064", ""},
		{"LinkVolume", `{"VolumeId":"` + volume + `","VmId":"i-12345678"}`, missing, "DeviceName"},
		{"LinkVolume", `{"VolumeId":"` + volume + `","VmId":"` + c.host() + `","DeviceName":"/dev/sda"}`, badValue, "/dev/sda"},
		{"LinkVolume", `{"VolumeId":"` + volume + `","VmId":"` + c.host() + `","DeviceName":"/dev/sda1"}`, "409 ResourceConflict/9999", "/dev/sda1"},
		{"LinkVolume", `{"VolumeId":"` + volume + `","VmId":"i-x","DeviceName":"/dev/sdb"}`, malformed, "i-x"},
		{"LinkVolume", `{"VolumeId":"ami-12345678","VmId":"i-12345678","DeviceName":"/dev/sdb"}`, malformed, "ami"},
		{"LinkVolume", `{"VolumeId":"vol-00000000","VmId":"` + c.host() + `","DeviceName":"/dev/sdb"}`, "400 InvalidResource/5064", ""},
		{"UnlinkVolume", `{"VolumeId":"vol-00000000"}`, "400 InvalidResource/5064", ""},
		{"UnlinkVolume", `{"VolumeId":"x"}`, malformed, ""},
		{"DeleteVolume", `{"VolumeId":"x"}`, malformed, ""},

		{"CreateSnapshot", `{}`, missing, "VolumeId"},
		{"CreateSnapshot", `{"VolumeId":"vol-00000000"}`, "400 InvalidResource/5064", ""},
		{"CreateSnapshot", `{"VolumeId":"x"}`, malformed, ""},
		{"CreateSnapshot", `{"VolumeId":"` + volume + `","SourceRegionName":"eu-west-2"}`, badValue, ""},
		{"CreateSnapshot", `{"VolumeId":"` + volume + `","Description":"` + strings.Repeat("d", 256) + `"}`, badValue, "255"},
		{"CreateSnapshot", `{"SourceSnapshotId":"` + snapshot + `"}`, missing, "SourceRegionName"},
		{"CreateSnapshot", `{"SourceSnapshotId":"` + snapshot + `","SourceRegionName":"us-east-1"}`, badValue, "us-east-1"},
		{"CreateSnapshot", `{"SourceSnapshotId":"snap-00000000","SourceRegionName":"eu-west-2"}`, "400 InvalidResource/5054", ""},
		{"CreateSnapshot", `{"FileLocation":"http://somewhere"}`, unknown, "FileLocation"},
		{"UpdateSnapshot", `{"SnapshotId":"` + snapshot + `"}`, missing, "PermissionsToCreateVolume"},
		{"UpdateSnapshot", `{"SnapshotId":"snap-00000000","PermissionsToCreateVolume":{}}`, "400 InvalidResource/5054", ""},
		{"UpdateSnapshot", `{"SnapshotId":"` + snapshot + `","PermissionsToCreateVolume":{"Additions":{"AccountIds":["me"]}}}`, badValue, "me"},
		{"UpdateSnapshot", `{"SnapshotId":"` + snapshot + `","PermissionsToCreateVolume":{"Additions":{"Accounts":[]}}}`, unknown, "PermissionsToCreateVolume.Additions.Accounts"},
		{"DeleteSnapshot", `{"SnapshotId":"snap-1"}`, malformed, ""},
		{"DeleteSnapshot", `{"SnapshotId":"` + snapshot + `"}`, "409 ResourceConflict/9999", image},

		{"CreateImage", `{"ImageName":"no"}`, badValue, "ImageName"},
		{"CreateImage", `{"ImageName":"a[b]"}`, badValue, "ImageName"},
		{"CreateImage", `{}`, missing, "ImageName"},
		{"CreateImage", `{"ImageName":"new"}`, missing, "BlockDeviceMappings"},
		{"CreateImage", `{"ImageName":"new","SourceRegionName":"eu-west-2"}`, missing, "SourceImageId"},
		{"CreateImage", strings.Replace(root(""), `"RootDeviceName":"/dev/sda1",`, "", 1), missing, "RootDeviceName"},
		{"CreateImage", strings.ReplaceAll(root(""), "/dev/sda1", "/dev/xvda"), badValue, "RootDeviceName"},
		{"CreateImage", `{"ImageName":"new","RootDeviceName":"/dev/sda1","BlockDeviceMappings":[{"DeviceName":"/dev/sda1","Bsu":{"VolumeSize":8}}]}`, badValue, "root device"},
		{"CreateImage", root(`,"VolumeSize":7`), badValue, "VolumeSize"},
		{"CreateImage", root(`,"VolumeSize":14902`), badValue, "14901"},
		{"CreateImage", root(`,"Colour":"red"`), unknown, "BlockDeviceMappings.Bsu.Colour"},
		{"CreateImage", strings.Replace(root(""), "taken", "new", 1)[:len(root(""))-1] + `,"Architecture":"arm64"}`, badValue, "arm64"},
		{"CreateImage", root("")[:len(root(""))-1] + `,"BootModes":["bios"]}`, badValue, "bios"},
		{"CreateImage", strings.Replace(root(""), snapshot, "snap-00000000", 1), "400 InvalidResource/5054", ""},
		{"CreateImage", strings.Replace(root(""), snapshot, "snap-1", 1), malformed, ""},
		{"CreateImage", strings.Replace(root(""), `"new"`, `"taken"`, 1), "409 ResourceConflict/9998", image},
		{"CreateImage", with(`{"DeviceName":"/dev/sda2","Bsu":{"VolumeSize":1}}`), badValue, "/dev/sda2"},
		{"CreateImage", with(`{"DeviceName":"/dev/sdb"}`), missing, "Bsu"},
		{"CreateImage", with(`{"DeviceName":"/dev/sdb","Bsu":{}}`), missing, "VolumeSize"},
		{"CreateImage", with(`{"Bsu":{"VolumeSize":1}}`), missing, "BlockDeviceMappings.DeviceName"},
		{"CreateImage", with(`{"DeviceName":"/dev/sdb","Bsu":{"VolumeSize":1},"VirtualDeviceName":"ephemeral0"}`), badValue, "both"},
		{"CreateImage", with(`{"DeviceName":"/dev/sdb","Bsu":{"VolumeSize":1}},{"DeviceName":"/dev/xvdb","Bsu":{"VolumeSize":1}}`), badValue, "twice"},
		{"CreateImage", `{"SourceImageId":"` + image + `"}`, missing, "SourceRegionName"},
		{"CreateImage", `{"SourceImageId":"` + image + `","SourceRegionName":"us-east-1"}`, badValue, ""},
		{"CreateImage", `{"SourceImageId":"` + image + `","SourceRegionName":"eu-west-2","RootDeviceName":"/dev/sda1"}`, badValue, ""},
		{"CreateImage", `{"SourceImageId":"ami-00000000","SourceRegionName":"eu-west-2"}`, "400 InvalidResource/5023", ""},
		{"CreateImage", `{"SourceImageId":"ami-1","SourceRegionName":"eu-west-2"}`, malformed, ""},
		{"UpdateImage", `{"ImageId":"` + image + `"}`, missing, "Description"},
		{"UpdateImage", `{"ImageId":"ami-00000000","Description":"x"}`, "400 InvalidResource/5023", ""},
		{"UpdateImage", `{"ImageId":"ami-1","Description":"x"}`, malformed, ""},
		{"UpdateImage", `{"ImageId":"` + image + `","PermissionsToLaunch":{"Removals":{"AccountIds":["me"]}}}`, badValue, "me"},
		{"DeleteImage", `{"ImageId":"ami-1"}`, malformed, ""},

		{"CreateTags", `{"ResourceIds":[],"Tags":[{"Key":"k","Value":"v"}]}`, missing, "ResourceIds"},
		{"CreateTags", `{"ResourceIds":["` + volume + `"],"Tags":[]}`, missing, "Tags"},
		{"CreateTags", `{"ResourceIds":["` + volume + `"],"Tags":[{"Key":"k"}]}`, missing, "Tags.Value"},
		{"CreateTags", `{"ResourceIds":["` + volume + `"],"Tags":[{"Key":"","Value":"v"}]}`, badValue, "key"},
		{"CreateTags", `{"ResourceIds":["` + volume + `"],"Tags":[{"Key":"k","Value":"` + strings.Repeat("é", 256) + `"}]}`, badValue, "255"},
		{"CreateTags", `{"ResourceIds":["x"],"Tags":[{"Key":"k","Value":"v"}]}`, malformed, ""},
		{"DeleteTags", `{"ResourceIds":["x"],"Tags":[{"Key":"k","Value":"v"}]}`, malformed, ""},
	}
	for _, test := range tests {
		t.Run(test.call+test.body, func(t *testing.T) {
			status, got := c.post(test.call, test.body)
			if r := refusal(status, got); r != test.want || !strings.Contains(fmt.Sprint(got["Errors"]), test.details) {
				t.Errorf("answered %v, want %s about %q", got, test.want, test.details)
			}
			checkContext(t, got)
		})
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

func checkContext(t *testing.T, a map[string]any) {
	t.Helper()
	c, _ := a["ResponseContext"].(map[string]any)
	if id, _ := c["RequestId"].(string); !uuid.MatchString(id) {
		t.Errorf("an answer with the context %v", a["ResponseContext"])
	}
}

func TestClientToken(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	ctx := t.Context()
	ask := osc.CreateVolumeRequest{SubregionName: zone, Size: ptr(1), ClientToken: ptr("one")}
	first := must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, ask)).Volume.VolumeId
	if again := must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, ask)).Volume.VolumeId; again != first {
		t.Errorf("one token made %s and %s", first, again)
	}
	ask.Size = ptr(2)
	if _, err := c.CreateVolume(ctx, ask); err == nil || !contains(err.Error(), "409", "9997") {
		t.Errorf("a token with other parameters: %v", err)
	}
	snap := osc.CreateSnapshotRequest{VolumeId: &first, ClientToken: ptr("one")}
	one := must[*osc.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, snap)).Snapshot
	if again := must[*osc.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, snap)).Snapshot.SnapshotId; again != one.SnapshotId || *one.ClientToken != "one" {
		t.Errorf("one token made %s and %s", one.SnapshotId, again)
	}
	copied := osc.CreateSnapshotRequest{SourceSnapshotId: &one.SnapshotId, SourceRegionName: ptr(home), ClientToken: ptr("copy")}
	if got := must[*osc.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, copied)).Snapshot; *got.ClientToken != "copy" {
		t.Errorf("a copy's token: %+v", got)
	}
	got := must[*osc.ReadVolumesResponse](t)(c.ReadVolumes(ctx, osc.ReadVolumesRequest{Filters: &osc.FiltersVolume{ClientTokens: &[]string{"one"}}}))
	if len(*got.Volumes) != 1 || (*got.Volumes)[0].VolumeId != first {
		t.Errorf("volumes of the token: %+v", got.Volumes)
	}
}

func TestDeviceNames(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	ctx, host := t.Context(), c.host()
	link := func(device string) error {
		_, err := c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: c.volume(), VmId: host, DeviceName: device})
		return err
	}
	for _, device := range []string{"/dev/sdb", "/dev/xvdc", "/dev/sdbz", "/dev/xvdza"} {
		if err := link(device); err != nil {
			t.Errorf("%s: %v", device, err)
		}
	}
	for _, device := range []string{"/dev/sdb", "/dev/xvdb", "/dev/sdc", "/dev/sdza"} {
		if err := link(device); err == nil || !contains(err.Error(), "409", "ResourceConflict") {
			t.Errorf("%s again: %v", device, err)
		}
	}
	for _, device := range []string{"sdb", "/dev/xvda", "/dev/sdab", "/dev/sdB", "/dev/sdbab", "/dev/vdb", "/dev/sdb1"} {
		wantCode(t, link(device), "4999")
	}
	for i := range 35 { // there are 5: the root volume, and 4 of this test
		if err := link(fmt.Sprintf("/dev/sdc%c", 'a'+i%26)); i < 26 && err != nil {
			t.Errorf("volume %d: %v", i, err)
		}
		if i >= 26 {
			_ = link(fmt.Sprintf("/dev/sdd%c", 'a'+i%26))
		}
	}
	wantCode(t, link("/dev/sdzz"), "10999")
}

func TestAuthorization(t *testing.T) {
	tc := newTestCloud(t, state.Instant())
	ctx := t.Context()
	read := func(c *osc.Client) error {
		_, err := c.ReadVolumes(ctx, osc.ReadVolumesRequest{})
		return err
	}
	wantCode(t, read(tc.client("NOBODY", secret)), "4120")

	wrong := tc.client(myKey, "not the secret")
	for range 3 {
		wantCode(t, read(wrong), "1")
	}
	if err := read(tc.Client); err != nil {
		t.Fatalf("three wrong signatures lock: %v", err)
	}
	for range 4 {
		wantCode(t, read(wrong), "1")
	}
	wantCode(t, read(tc.Client), "13")
	if err := read(tc.client("AKOTHER", secret)); err != nil {
		t.Errorf("another account is locked too: %v", err)
	}
	tc.clock.Pass(59 * time.Second)
	wantCode(t, read(tc.Client), "13")
	tc.clock.Pass(2 * time.Second)
	if err := read(tc.Client); err != nil {
		t.Errorf("after a minute: %v", err)
	}
}

func TestHTTPRequests(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	unsigned := oapi.New(c.state, func(*http.Request, []byte, string) (state.Caller, error) { return mine, nil })
	tests := map[string]struct {
		method, path, body string
		handler            http.Handler
		want               string
	}{
		"not signed":        {"POST", "/api/v1/ReadVolumes", "{}", c.handler, "401 AccessDenied/12"},
		"latest":            {"POST", "/api/latest/ReadVolumes", "{}", unsigned, "200"},
		"no body":           {"POST", "/api/v1/ReadVolumes", "", unsigned, "200"},
		"another method":    {"GET", "/api/v1/ReadVolumes", "", unsigned, "405 AccessDenied/2"},
		"another version":   {"POST", "/api/v2/ReadVolumes", "{}", unsigned, "404 InvalidAction/12000"},
		"no call":           {"POST", "/api/v1/", "{}", unsigned, "404 InvalidAction/12000"},
		"a path for a call": {"POST", "/api/v1/ReadVolumes/x", "{}", unsigned, "404 InvalidAction/12000"},
		"too much":          {"POST", "/api/v1/ReadVolumes", `{"NextPageToken":"` + strings.Repeat("x", 1<<20) + `"}`, unsigned, "400 InvalidParameter/3999"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, test.path, bytes.NewReader([]byte(test.body)))
			status, got := answerOf(t, test.handler, r)
			if refusal(status, got) != test.want {
				t.Errorf("answered %d %v, want %s", status, got, test.want)
			}
			checkContext(t, got)
		})
	}
}

func TestAction(t *testing.T) {
	h := newTestCloud(t, state.Instant()).handler
	for path, want := range map[string]string{
		"/api/v1/ReadVolumes": "ReadVolumes", "/api/latest/CreateImage": "CreateImage",
		"/api/v1/": "", "/": "", "/api/v1/a/b": "", "/latest/meta-data": "",
	} {
		if got := h.Action(wire.New(httptest.NewRequest(http.MethodPost, path, nil), nil)); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestRefuse(t *testing.T) {
	h := newTestCloud(t, state.Instant()).handler
	for _, test := range []struct {
		status     int
		code, want string
	}{
		{503, "6", "503 AccessDenied/6"}, {409, "9029", "409 ResourceConflict/9029"},
		{400, "5064", "400 InvalidResource/5064"}, {500, "InternalError", "500 InternalError/InternalError"}, {400, "99999", "400 DefaultError/99999"},
	} {
		rec := httptest.NewRecorder()
		h.Refuse(rec, test.status, test.code, "on request")
		var got map[string]any
		if err := json.Unmarshal(rec.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if checkContext(t, got); refusal(rec.Code, got) != test.want || !strings.Contains(rec.Body.String(), "on request") {
			t.Errorf("%s: %s", test.code, rec.Body)
		}
	}
}
