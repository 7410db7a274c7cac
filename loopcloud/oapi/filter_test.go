package oapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/oapi"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// filterCloud is a cloud with resources that differ in every filtered property.
type filterCloud struct {
	*testCloud
	small, large, linked string // volumes
	plain, shared        string // snapshots
	older, newer, theirs string // images
}

func newFilterCloud(t *testing.T) *filterCloud {
	t.Helper()
	c := newTestCloud(t, state.Instant())
	ctx, z := t.Context(), &filterCloud{testCloud: c}
	z.small = must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: zone, Size: ptr(1), ClientToken: ptr("small")})).Volume.VolumeId
	z.plain = must[*osc.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, osc.CreateSnapshotRequest{VolumeId: &z.small, Description: ptr("plain")})).Snapshot.SnapshotId
	c.clock.Pass(24 * time.Hour)
	z.large = must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: zone + "", Size: ptr(100), VolumeType: ptr(osc.VolumeType("io1")), Iops: ptr(500)})).Volume.VolumeId
	z.linked = must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: zone, SnapshotId: &z.plain, VolumeType: ptr(osc.VolumeType("gp2"))})).Volume.VolumeId
	must[*osc.LinkVolumeResponse](t)(c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: z.linked, VmId: c.host(), DeviceName: "/dev/xvdk"}))
	z.shared = must[*osc.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, osc.CreateSnapshotRequest{VolumeId: &z.large, Description: ptr("shared, and large"), ClientToken: ptr("tok")})).Snapshot.SnapshotId
	must[*osc.UpdateSnapshotResponse](t)(c.UpdateSnapshot(ctx, osc.UpdateSnapshotRequest{SnapshotId: z.shared,
		PermissionsToCreateVolume: osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{AccountIds: &[]string{other}, GlobalPermission: ptr(true)}}}))
	must[*osc.CreateTagsResponse](t)(c.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{z.small, z.plain}, Tags: []osc.ResourceTag{{Key: "size", Value: "small"}, {Key: "empty", Value: ""}}}))
	z.images()
	return z
}

func (z *filterCloud) images() {
	z.t.Helper()
	ctx := z.t.Context()
	z.older = z.image("debian-11", z.plain)
	req := imageOf("debian-12", z.shared)
	(*req.BlockDeviceMappings)[0].Bsu.VolumeType = ptr(osc.VolumeType("gp2"))
	(*req.BlockDeviceMappings)[0].Bsu.DeleteOnVmDeletion = ptr(false)
	req.Description, req.TpmMandatory, req.Architecture = ptr("the newer one"), ptr(true), ptr("i386")
	req.BootModes, req.ProductCodes = &[]osc.BootMode{"legacy", "uefi"}, &[]string{"0008"}
	z.newer = must[*osc.CreateImageResponse](z.t)(z.CreateImage(ctx, req)).Image.ImageId
	must[*osc.UpdateImageResponse](z.t)(z.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: z.newer,
		PermissionsToLaunch: &osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{AccountIds: &[]string{other}}}}))
	must[*osc.CreateTagsResponse](z.t)(z.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{z.newer}, Tags: []osc.ResourceTag{{Key: "new", Value: "yes"}}}))

	somebody := state.Caller{Account: other, Region: home}
	img, err := z.state.CreateImage(somebody, state.ImageRequest{
		Name: "public thing", IDDigits: 17, // as EC2 creates it
		Attributes: state.ImageAttributes{RootDevice: "/dev/sda1", BootMode: "uefi"},
		Mappings: []state.Mapping{{Device: "/dev/sda1", Volume: &state.MappedVolume{
			SnapshotID: z.imported(somebody).ID, Type: "gp3", DeleteOnTermination: true}}},
	})
	if err != nil {
		z.t.Fatal(err)
	}
	if _, err := z.state.ShareImage(somebody, img.ID, state.PermissionChange{Add: state.Permissions{Public: true}}, false); err != nil {
		z.t.Fatal(err)
	}
	z.theirs = img.ID
}

// find calls a listing call and returns the IDs in the response, in order.
func (z *filterCloud) find(call, filters string) []string {
	z.t.Helper()
	status, got := z.post(call, `{"Filters":`+filters+`}`)
	if status != 200 {
		z.t.Fatalf("%s %s: %v", call, filters, got)
	}
	noun := strings.TrimPrefix(call, "Read")
	found := []string{}
	for _, thing := range got[noun].([]any) {
		found = append(found, thing.(map[string]any)[strings.TrimSuffix(noun, "s")+"Id"].(string))
	}
	return found
}

func TestFilters(t *testing.T) {
	z := newFilterCloud(t)
	root := ""
	for _, v := range z.state.Volumes(mine) {
		if v.Attachment != nil && v.Attachment.Device == "/dev/sda1" {
			root = v.ID
		}
	}
	host := z.host()
	q := fmt.Sprintf
	tests := []struct {
		call, filters string
		want          []string
	}{
		{"ReadVolumes", `{}`, []string{root, z.small, z.large, z.linked}},
		{"ReadVolumes", q(`{"VolumeIds":[%q,%q,"vol-00000000"]}`, z.linked, z.small), []string{z.small, z.linked}},
		{"ReadVolumes", `{"VolumeIds":[]}`, nil},
		{"ReadVolumes", `{"VolumeSizes":[100,1]}`, []string{z.small, z.large, z.linked}},
		{"ReadVolumes", `{"VolumeSizes":[1],"VolumeTypes":["standard"]}`, []string{z.small}},
		{"ReadVolumes", `{"VolumeStates":["in-use"]}`, []string{root, z.linked}},
		{"ReadVolumes", `{"VolumeStates":["in-*"]}`, nil},
		{"ReadVolumes", `{"VolumeTypes":["io1","standard"]}`, []string{z.small, z.large}},
		{"ReadVolumes", q(`{"SnapshotIds":[%q]}`, z.plain), []string{z.linked}},
		{"ReadVolumes", `{"SubregionNames":["eu-west-2b"]}`, nil},
		{"ReadVolumes", `{"ClientTokens":["small"]}`, []string{z.small}},
		{"ReadVolumes", `{"CreationDates":["2026-07-02"]}`, []string{z.large, z.linked}},
		{"ReadVolumes", `{"CreationDates":["2026-07-02T12:00:00.000Z"]}`, []string{z.large, z.linked}},
		{"ReadVolumes", `{"CreationDates":["2026-07-02T12:00:01Z"]}`, nil},
		{"ReadVolumes", q(`{"LinkVolumeVmIds":[%q],"LinkVolumeDeviceNames":["/dev/xvdk"]}`, host), []string{z.linked}},
		{"ReadVolumes", `{"LinkVolumeLinkStates":["attached"],"LinkVolumeDeleteOnVmDeletion":false}`, []string{z.linked}},
		{"ReadVolumes", `{"LinkVolumeDeleteOnVmDeletion":true}`, []string{root}},
		{"ReadVolumes", `{"Tags":["size=small"]}`, []string{z.small}},
		{"ReadVolumes", `{"Tags":["empty="]}`, []string{z.small}},
		{"ReadVolumes", `{"TagKeys":["size"],"TagValues":["small"]}`, []string{z.small}},
		{"ReadVolumes", `{"TagValues":[""]}`, []string{z.small}},
		{"ReadVolumes", `{"TagKeys":["siz"]}`, nil},

		{"ReadSnapshots", q(`{"SnapshotIds":[%q]}`, z.plain), []string{z.plain}},
		{"ReadSnapshots", q(`{"AccountIds":[%q]}`, me), []string{z.plain, z.shared}},
		{"ReadSnapshots", `{"AccountAliases":["somebody"]}`, nil},
		{"ReadSnapshots", `{"Descriptions":["*large"]}`, []string{z.shared}},
		{"ReadSnapshots", `{"States":["completed"],"Progresses":[100],"VolumeSizes":[1]}`, []string{z.plain}},
		{"ReadSnapshots", q(`{"VolumeIds":[%q]}`, z.large), []string{z.shared}},
		{"ReadSnapshots", `{"ClientTokens":["tok"]}`, []string{z.shared}},
		{"ReadSnapshots", `{"FromCreationDate":"2026-07-02"}`, []string{z.shared}},
		{"ReadSnapshots", `{"ToCreationDate":"2026-07-01T12:00:00Z"}`, []string{z.plain}},
		{"ReadSnapshots", q(`{"PermissionsToCreateVolumeAccountIds":[%q]}`, other), []string{z.shared}},
		{"ReadSnapshots", `{"PermissionsToCreateVolumeGlobalPermission":false}`, []string{z.plain}},
		{"ReadSnapshots", `{"Tags":["size=small"]}`, []string{z.plain}},

		{"ReadImages", `{"ImageNames":["debian-*"]}`, []string{z.older, z.newer}},
		{"ReadImages", `{"ImageNames":["debian-12","nothing"]}`, []string{z.newer}},
		{"ReadImages", q(`{"ImageIds":[%q]}`, z.theirs), []string{z.theirs}},
		{"ReadImages", q(`{"AccountIds":[%q]}`, me), []string{z.older, z.newer}},
		{"ReadImages", `{"AccountAliases":["somebody"]}`, []string{z.theirs}},
		{"ReadImages", `{"Architectures":["i386"]}`, []string{z.newer}},
		{"ReadImages", `{"BootModes":["uefi"]}`, []string{z.newer, z.theirs}},
		{"ReadImages", `{"BootModes":["legacy"]}`, []string{z.older, z.newer}},
		{"ReadImages", `{"Descriptions":["the newer*"]}`, []string{z.newer}},
		{"ReadImages", q(`{"FileLocations":["%s/debian-11"]}`, me), []string{z.older}},
		{"ReadImages", `{"Hypervisors":["xen"],"RootDeviceTypes":["ebs"],"RootDeviceNames":["/dev/sda1"],"VirtualizationTypes":["hvm"],"SecureBoot":false,"States":["available"]}`, []string{z.older, z.newer, z.theirs}},
		{"ReadImages", `{"VirtualizationTypes":["paravirtual"]}`, nil},
		{"ReadImages", `{"ProductCodes":["0001"]}`, []string{z.older, z.theirs}},
		{"ReadImages", `{"TpmMandatory":true}`, []string{z.newer}},
		{"ReadImages", q(`{"BlockDeviceMappingSnapshotIds":[%q],"BlockDeviceMappingDeviceNames":["/dev/sda1"]}`, z.shared), []string{z.newer}},
		{"ReadImages", `{"BlockDeviceMappingVolumeTypes":["gp2"]}`, []string{z.newer, z.theirs}},
		{"ReadImages", `{"BlockDeviceMappingVolumeSizes":[100]}`, []string{z.newer}},
		{"ReadImages", `{"BlockDeviceMappingDeleteOnVmDeletion":true}`, []string{z.older, z.theirs}},
		{"ReadImages", q(`{"PermissionsToLaunchAccountIds":[%q]}`, other), []string{z.newer}},
		{"ReadImages", `{"PermissionsToLaunchGlobalPermission":true}`, []string{z.theirs}},
		{"ReadImages", `{"TagKeys":["new"]}`, []string{z.newer}},

		{"ReadVms", q(`{"VmIds":[%q],"VmStateNames":["running"],"RootDeviceTypes":["bsu"]}`, host), []string{host}},
		{"ReadVms", `{"VmStateNames":["stopped"]}`, nil},
		{"ReadVms", q(`{"BlockDeviceMappingVolumeIds":[%q],"BlockDeviceMappingStates":["attached"],"BlockDeviceMappingDeviceNames":["/dev/xvdk"]}`, z.linked), []string{host}},
		{"ReadVms", `{"SubregionNames":["eu-west-2b"]}`, nil},
		{"ReadVms", `{"BlockDeviceMappingDeleteOnVmDeletion":true,"Tenancies":["default"],"RootDeviceNames":["/dev/sda1"]}`, []string{host}},
		{"ReadVms", `{"CreationDates":["2026-07-02"]}`, nil},
	}
	for _, test := range tests {
		got := z.find(test.call, test.filters)
		slices.Sort(got)
		slices.Sort(test.want)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s %s: %v, want %v", test.call, test.filters, got, test.want)
		}
	}
}

// TestPaging reads all pages, and finds every resource once and in order.
func TestPaging(t *testing.T) {
	z := newFilterCloud(t)
	all := z.find("ReadVolumes", `{}`)
	var got []string
	var token *string
	for range all {
		page := must[*osc.ReadVolumesResponse](t)(z.ReadVolumes(t.Context(), osc.ReadVolumesRequest{ResultsPerPage: ptr(3), NextPageToken: token}))
		if len(*page.Volumes) > 3 {
			t.Fatalf("a page of %d", len(*page.Volumes))
		}
		for _, v := range *page.Volumes {
			got = append(got, v.VolumeId)
		}
		if token = page.NextPageToken; token == nil {
			break
		}
	}
	if token != nil || !slices.Equal(got, all) {
		t.Errorf("page by page: %v, at once: %v", got, all)
	}
}

// TestResponsesConformToDescription checks that responses conform to the API's description,
// from which the SDK is generated. The SDK has a method of the name of each call.
func TestResponsesConformToDescription(t *testing.T) {
	z := newFilterCloud(t)
	tested := 0
	for _, call := range oapi.Calls() {
		if !strings.HasPrefix(call, "Read") {
			continue
		}
		tested++
		method, ok := reflect.TypeFor[*osc.Client]().MethodByName(call)
		if !ok {
			t.Errorf("the SDK has no call %s", call)
			continue
		}
		status, got := z.post(call, `{}`)
		dec := json.NewDecoder(strings.NewReader(encoded(t, got)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(reflect.New(method.Type.Out(0).Elem()).Interface()); err != nil || status != http.StatusOK {
			t.Errorf("%s: %d, %v", call, status, err)
		}
	}
	if tested < 8 {
		t.Errorf("only %d calls are tested", tested)
	}
}

// TestOmittedVolumeFields checks that fields that a volume does not have are omitted, as in
// recorded responses.
func TestOmittedVolumeFields(t *testing.T) {
	z := newFilterCloud(t)
	_, got := z.post("ReadVolumes", `{}`)
	for _, v := range got["Volumes"].([]any) {
		v := v.(map[string]any)
		_, iops := v["Iops"]
		_, snapshot := v["SnapshotId"]
		if iops != (v["VolumeType"] != "standard") || snapshot != (v["VolumeId"] == z.linked) {
			t.Errorf("volume %v", v)
		}
	}
}
