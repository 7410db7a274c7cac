package oapi_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// slow is a cloud where every step takes ten seconds.
var slow = state.Timing{
	VolumeCreate: 10 * time.Second, VolumeModify: 10 * time.Second, Attach: 10 * time.Second, Detach: 10 * time.Second,
	Snapshot: 10 * time.Second, ImageCreate: 10 * time.Second, Copy: 10 * time.Second,
}

const step = 11 * time.Second

func (c *testCloud) readVolume(id string) osc.Volume {
	c.t.Helper()
	got := must[*osc.ReadVolumesResponse](c.t)(c.ReadVolumes(c.t.Context(),
		osc.ReadVolumesRequest{Filters: &osc.FiltersVolume{VolumeIds: &[]string{id}}}))
	if len(*got.Volumes) != 1 {
		c.t.Fatalf("%d volumes %s", len(*got.Volumes), id)
	}
	return (*got.Volumes)[0]
}

func TestVolumeLife(t *testing.T) {
	c := newTestCloud(t, slow)
	ctx, host := t.Context(), c.host()

	made := must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, osc.CreateVolumeRequest{
		SubregionName: zone, Size: ptr(8), ClientToken: ptr("once"),
	})).Volume
	if made.State != osc.VolumeStateCreating || made.Size != 8 || made.VolumeType != "standard" || made.SubregionName != zone ||
		made.Iops != 0 || made.SnapshotId != nil || *made.ClientToken != "once" || made.LinkedVolumes == nil || made.Tags == nil {
		t.Errorf("a new volume: %+v", made)
	}
	id := made.VolumeId
	_, err := c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: id, VmId: host, DeviceName: "/dev/xvdb"})
	wantConflict(t, err)
	_, err = c.CreateSnapshot(ctx, osc.CreateSnapshotRequest{VolumeId: &id})
	wantConflict(t, err)

	c.clock.Pass(step)
	if v := c.readVolume(id); v.State != osc.VolumeStateAvailable {
		t.Fatalf("after a while: %+v", v)
	}
	must[*osc.CreateTagsResponse](t)(c.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{id}, Tags: []osc.ResourceTag{{Key: "k", Value: "v"}}}))
	must[*osc.LinkVolumeResponse](t)(c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: id, VmId: host, DeviceName: "/dev/xvdb"}))
	v := c.readVolume(id)
	want := []osc.LinkedVolume{{DeviceName: "/dev/xvdb", State: "attaching", VmId: host, VolumeId: id}}
	if v.State != osc.VolumeStateInUse || !reflect.DeepEqual(v.LinkedVolumes, want) || v.Tags[0].Value != "v" {
		t.Errorf("a linked volume: %+v", v)
	}
	_, err = c.DeleteVolume(ctx, osc.DeleteVolumeRequest{VolumeId: id})
	wantConflict(t, err)

	c.clock.Pass(step)
	c.checkLinked(id, host)
	got := must[*osc.UpdateVolumeResponse](t)(c.UpdateVolume(ctx, osc.UpdateVolumeRequest{VolumeId: id, Size: ptr(10), VolumeType: ptr(osc.VolumeType("gp2"))}))
	if got.Volume.Size != 10 || got.Volume.VolumeType != "gp2" || got.Volume.Iops != 100 {
		t.Errorf("an updated volume: %+v", got.Volume)
	}

	must[*osc.UnlinkVolumeResponse](t)(c.UnlinkVolume(ctx, osc.UnlinkVolumeRequest{VolumeId: id}))
	if v := c.readVolume(id); v.LinkedVolumes[0].State != "detaching" {
		t.Errorf("a volume on its way off: %+v", v)
	}
	c.clock.Pass(step)
	for c.readVolume(id).State != osc.VolumeStateAvailable { // its device is removed first; the test's own time limit is the bound
		time.Sleep(time.Millisecond)
	}
	if v := c.readVolume(id); len(v.LinkedVolumes) != 0 {
		t.Errorf("an unlinked volume: %+v", v)
	}
	_, err = c.UnlinkVolume(ctx, osc.UnlinkVolumeRequest{VolumeId: id})
	wantConflict(t, err)

	must[*osc.DeleteVolumeResponse](t)(c.DeleteVolume(ctx, osc.DeleteVolumeRequest{VolumeId: id}))
	if v := c.readVolume(id); v.State != osc.VolumeStateDeleting {
		t.Errorf("a deleted volume: %+v", v)
	}
	_, err = c.DeleteVolume(ctx, osc.DeleteVolumeRequest{VolumeId: id})
	wantCode(t, err, "5064")
	c.clock.Pass(time.Hour)
	gone := must[*osc.ReadVolumesResponse](t)(c.ReadVolumes(ctx, osc.ReadVolumesRequest{Filters: &osc.FiltersVolume{VolumeIds: &[]string{id}}}))
	if len(*gone.Volumes) != 0 {
		t.Errorf("after an hour: %+v", gone.Volumes)
	}
}

// checkLinked checks a linked volume in the description of the VM.
func (c *testCloud) checkLinked(volume, vm string) {
	c.t.Helper()
	got := must[*osc.ReadVmsResponse](c.t)(c.ReadVms(c.t.Context(), osc.ReadVmsRequest{Filters: &osc.FiltersVm{VmIds: &[]string{vm}}}))
	if len(*got.Vms) != 1 {
		c.t.Fatalf("%d VMs %s", len(*got.Vms), vm)
	}
	host := (*got.Vms)[0]
	if host.State != osc.VmStateRunning || host.Placement.SubregionName != zone || host.RootDeviceName != "/dev/sda1" {
		c.t.Errorf("the host: %+v", host)
	}
	if host.BsuOptimized == nil || host.IsSourceDestChecked == nil || host.KeypairName == nil ||
		host.ShutdownBehaviorConfiguration == nil || string(*host.ShutdownBehaviorConfiguration.HostAction) != "restart" {
		c.t.Errorf("the host lacks fields: %+v", host)
	}
	names := map[string]string{}
	for _, m := range host.BlockDeviceMappings {
		names[m.Bsu.VolumeId] = m.DeviceName + " " + string(m.Bsu.State)
	}
	if len(names) != 2 || names[volume] != "/dev/xvdb attached" {
		c.t.Errorf("the host's devices: %v", names)
	}
}

// wantConflict checks for status 409, for which the SDK has no type.
func wantConflict(t *testing.T, err error) {
	t.Helper()
	if err == nil || !contains(err.Error(), "409", "ResourceConflict") && !contains(err.Error(), "409", "InvalidState", "6007") {
		t.Errorf("the error is %v, not a conflict", err)
	}
}

func TestSnapshotLife(t *testing.T) {
	c := newTestCloud(t, slow)
	ctx := t.Context()
	volume := c.volume()
	c.clock.Pass(step)

	made := must[*osc.CreateSnapshotResponse](t)(c.CreateSnapshot(ctx, osc.CreateSnapshotRequest{VolumeId: &volume, Description: ptr("of a volume")})).Snapshot
	if made.State != osc.SnapshotStatePending || *made.Progress != 0 || made.VolumeId != volume || made.VolumeSize != 8 ||
		made.AccountId != me || *made.Description != "of a volume" || *made.PermissionsToCreateVolume.GlobalPermission {
		t.Errorf("a new snapshot: %+v", made)
	}
	id := made.SnapshotId
	_, err := c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: zone, SnapshotId: &id})
	if err == nil || !contains(err.Error(), "409", "InvalidState") {
		t.Errorf("a volume of a pending snapshot: %v", err)
	}

	c.clock.Pass(step)
	if s := c.readSnapshot(c.Client, id); s == nil || s.State != osc.SnapshotStateCompleted || *s.Progress != 100 {
		t.Fatalf("after a while: %+v", s)
	}
	sourced := must[*osc.CreateVolumeResponse](t)(c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: zone, SnapshotId: &id})).Volume
	if sourced.Size != 8 || *sourced.SnapshotId != id {
		t.Errorf("a volume of a snapshot: %+v", sourced)
	}

	theirs := c.client("AKOTHER", secret)
	if s := c.readSnapshot(theirs, id); s != nil {
		t.Errorf("another account sees %+v", s)
	}
	shared := must[*osc.UpdateSnapshotResponse](t)(c.UpdateSnapshot(ctx, osc.UpdateSnapshotRequest{SnapshotId: id,
		PermissionsToCreateVolume: osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{AccountIds: &[]string{other}}}}))
	if got := *shared.Snapshot.PermissionsToCreateVolume.AccountIds; !slices.Equal(got, []string{other}) {
		t.Errorf("shared with %v", got)
	}
	copied := must[*osc.CreateSnapshotResponse](t)(theirs.CreateSnapshot(ctx, osc.CreateSnapshotRequest{SourceSnapshotId: &id, SourceRegionName: ptr(home)})).Snapshot
	if copied.SnapshotId == id || copied.AccountId != other || *copied.AccountAlias != "somebody" || copied.VolumeSize != 8 {
		t.Errorf("a copy: %+v", copied)
	}
	_, err = theirs.DeleteSnapshot(ctx, osc.DeleteSnapshotRequest{SnapshotId: id})
	if err == nil || !contains(err.Error(), "403", "AccessDenied") {
		t.Errorf("deleting another account's snapshot: %v", err)
	}

	must[*osc.DeleteSnapshotResponse](t)(c.DeleteSnapshot(ctx, osc.DeleteSnapshotRequest{SnapshotId: id}))
	if s := c.readSnapshot(c.Client, id); s != nil {
		t.Errorf("a deleted snapshot: %+v", s)
	}
	_, err = c.DeleteSnapshot(ctx, osc.DeleteSnapshotRequest{SnapshotId: id})
	wantCode(t, err, "5054")
}

func (c *testCloud) readSnapshot(client *osc.Client, id string) *osc.Snapshot {
	c.t.Helper()
	got := must[*osc.ReadSnapshotsResponse](c.t)(client.ReadSnapshots(c.t.Context(),
		osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{SnapshotIds: &[]string{id}}}))
	if len(*got.Snapshots) == 0 {
		return nil
	}
	return &(*got.Snapshots)[0]
}

func TestImageLife(t *testing.T) {
	c := newTestCloud(t, state.Timing{ImageCreate: 10 * time.Second})
	ctx, snapshot := t.Context(), c.snapshot()

	req := imageOf("an image", snapshot)
	req.Description, req.TpmMandatory = ptr("for a test"), ptr(true)
	req.BootModes = &[]osc.BootMode{osc.BootModeUefi}
	*req.BlockDeviceMappings = append(*req.BlockDeviceMappings,
		osc.BlockDeviceMappingImage{DeviceName: ptr("/dev/sdb"), Bsu: &osc.BsuToCreate{
			VolumeSize: ptr(10), VolumeType: ptr(osc.VolumeType("io1")), Iops: ptr(200), DeleteOnVmDeletion: ptr(false)}},
		osc.BlockDeviceMappingImage{DeviceName: ptr("/dev/sdc"), VirtualDeviceName: ptr("ephemeral0")})
	made := must[*osc.CreateImageResponse](t)(c.CreateImage(ctx, req)).Image
	if made.State != osc.ImageStatePending || *made.ImageName != "an image" || made.AccountId != me || made.Architecture != "x86_64" ||
		!slices.Equal(made.BootModes, []osc.BootMode{"uefi"}) || !*made.TpmMandatory || *made.RootDeviceName != "/dev/sda1" ||
		!slices.Equal(*made.ProductCodes, []string{"0001"}) || *made.Description != "for a test" {
		t.Errorf("a new image: %+v", made)
	}
	want := []osc.BlockDeviceMappingImage{
		{DeviceName: ptr("/dev/sda1"), Bsu: &osc.BsuToCreate{SnapshotId: &snapshot, VolumeSize: ptr(8), VolumeType: ptr(osc.VolumeType("standard")), DeleteOnVmDeletion: ptr(true)}},
		(*req.BlockDeviceMappings)[1], (*req.BlockDeviceMappings)[2],
	}
	if !reflect.DeepEqual(*made.BlockDeviceMappings, want) {
		t.Errorf("its devices: %+v", *made.BlockDeviceMappings)
	}
	id := made.ImageId
	_, err := c.CreateImage(ctx, imageOf("an image", snapshot))
	wantConflict(t, err)
	_, err = c.DeleteSnapshot(ctx, osc.DeleteSnapshotRequest{SnapshotId: snapshot})
	wantConflict(t, err)
	c.clock.Pass(step)
	if i := c.readImage(c.Client, id); i == nil || i.State != osc.ImageStateAvailable {
		t.Fatalf("after a while: %+v", i)
	}
	c.shareAndCopy(id, snapshot)

	updated := must[*osc.UpdateImageResponse](t)(c.UpdateImage(ctx, osc.UpdateImageRequest{
		ImageId: id, Description: ptr("another"), ProductCodes: &[]string{"0002"}})).Image
	if *updated.Description != "another" || !slices.Equal(*updated.ProductCodes, []string{"0002"}) {
		t.Errorf("an updated image: %+v", updated)
	}
	must[*osc.DeleteImageResponse](t)(c.DeleteImage(ctx, osc.DeleteImageRequest{ImageId: id}))
	if i := c.readImage(c.Client, id); i != nil {
		t.Errorf("a deleted image: %+v", i)
	}
	_, err = c.DeleteImage(ctx, osc.DeleteImageRequest{ImageId: id})
	wantCode(t, err, "5023")
	must[*osc.DeleteSnapshotResponse](t)(c.DeleteSnapshot(ctx, osc.DeleteSnapshotRequest{SnapshotId: snapshot}))
}

func (c *testCloud) readImage(client *osc.Client, id string) *osc.Image {
	c.t.Helper()
	got := must[*osc.ReadImagesResponse](c.t)(client.ReadImages(c.t.Context(),
		osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageIds: &[]string{id}}}))
	if len(*got.Images) == 0 {
		return nil
	}
	return &(*got.Images)[0]
}

// shareAndCopy shares an image with another account, which then sees the image but not its
// snapshot, and creates a copy with its own snapshot.
func (c *testCloud) shareAndCopy(id, snapshot string) {
	c.t.Helper()
	ctx, theirs := c.t.Context(), c.client("AKOTHER", secret)
	if i := c.readImage(theirs, id); i != nil {
		c.t.Errorf("another account sees %+v", i)
	}
	_, err := theirs.CreateImage(ctx, osc.CreateImageRequest{SourceImageId: &id, SourceRegionName: ptr(home)})
	wantCode(c.t, err, "5023")
	permit := func(p osc.PermissionsOnResourceCreation) osc.PermissionsOnResource {
		got := must[*osc.UpdateImageResponse](c.t)(c.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: id, PermissionsToLaunch: &p}))
		return *got.Image.PermissionsToLaunch
	}
	got := permit(osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{AccountIds: &[]string{other}}})
	if !slices.Equal(*got.AccountIds, []string{other}) || *got.GlobalPermission {
		c.t.Errorf("shared with %+v", got)
	}
	if c.readImage(theirs, id) == nil || c.readSnapshot(theirs, snapshot) != nil {
		c.t.Error("to share an image is to share it, and not its snapshot")
	}
	copied := must[*osc.CreateImageResponse](c.t)(theirs.CreateImage(ctx, osc.CreateImageRequest{
		SourceImageId: &id, SourceRegionName: ptr(home), ImageName: ptr("a copy")})).Image
	bsu := (*copied.BlockDeviceMappings)[0].Bsu
	if copied.AccountId != other || *copied.ImageName != "a copy" || *bsu.SnapshotId == snapshot || c.readSnapshot(theirs, *bsu.SnapshotId) == nil {
		c.t.Errorf("a copy: %+v of %s", copied, *bsu.SnapshotId)
	}
	_, err = theirs.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: id, Description: ptr("mine")})
	if err == nil || !contains(err.Error(), "403", "AccessDenied") {
		c.t.Errorf("updating another account's image: %v", err)
	}
	got = permit(osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{GlobalPermission: ptr(true)},
		Removals: &osc.PermissionsOnResource{AccountIds: &[]string{other}}})
	if len(*got.AccountIds) != 0 || !*got.GlobalPermission {
		c.t.Errorf("public: %+v", got)
	}
	if got = permit(osc.PermissionsOnResourceCreation{Removals: &osc.PermissionsOnResource{GlobalPermission: ptr(true)}}); *got.GlobalPermission {
		c.t.Errorf("private again: %+v", got)
	}
}

func TestTags(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	ctx, volume, snapshot := t.Context(), c.volume(), c.snapshot()
	tags := []osc.ResourceTag{{Key: "a", Value: "1"}, {Key: "b", Value: ""}}
	must[*osc.CreateTagsResponse](t)(c.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{volume, snapshot}, Tags: tags}))
	read := func(f osc.FiltersTag) []osc.Tag {
		return *must[*osc.ReadTagsResponse](t)(c.ReadTags(ctx, osc.ReadTagsRequest{Filters: &f})).Tags
	}
	if got := read(osc.FiltersTag{ResourceIds: &[]string{volume}}); len(got) != 2 || got[0] != (osc.Tag{Key: "a", Value: "1", ResourceId: volume, ResourceType: "volume"}) {
		t.Errorf("tags of the volume: %+v", got)
	}
	if got := read(osc.FiltersTag{Keys: &[]string{"b"}, Values: &[]string{""}, ResourceTypes: &[]string{"snapshot"}}); len(got) != 1 || got[0].ResourceId != snapshot {
		t.Errorf("tags by key, value and type: %+v", got)
	}
	must[*osc.DeleteTagsResponse](t)(c.DeleteTags(ctx, osc.DeleteTagsRequest{ResourceIds: []string{volume},
		Tags: []osc.ResourceTag{{Key: "a", Value: "other"}, {Key: "b", Value: ""}}}))
	if got := read(osc.FiltersTag{ResourceIds: &[]string{volume}}); len(got) != 1 || got[0].Key != "a" {
		t.Errorf("a tag goes only with its value: %+v", got)
	}
	_, err := c.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{"vol-00000000"}, Tags: tags})
	wantCode(t, err, "5064")
	_, err = c.DeleteTags(ctx, osc.DeleteTagsRequest{ResourceIds: []string{"ami-00000000"}, Tags: tags})
	wantCode(t, err, "5023")
	_, err = c.ReadTags(ctx, osc.ReadTagsRequest{Filters: &osc.FiltersTag{ResourceIds: &[]string{"nothing"}}})
	wantCode(t, err, "4104")
}

func TestAccountsAndRegions(t *testing.T) {
	c := newTestCloud(t, state.Instant())
	ctx := t.Context()
	accounts := *must[*osc.ReadAccountsResponse](t)(c.ReadAccounts(ctx, osc.ReadAccountsRequest{})).Accounts
	if len(accounts) != 1 || *accounts[0].AccountId != me {
		t.Errorf("accounts: %+v", accounts)
	}
	regions := *must[*osc.ReadRegionsResponse](t)(c.ReadRegions(ctx, osc.ReadRegionsRequest{})).Regions
	if i := slices.IndexFunc(regions, func(r osc.Region) bool { return *r.RegionName == home }); i < 0 || "http://"+*regions[i].Endpoint != c.server.URL {
		t.Errorf("regions: %+v", regions)
	}
	subregions := func(f osc.FiltersSubregion) (names []string) {
		for _, s := range *must[*osc.ReadSubregionsResponse](t)(c.ReadSubregions(ctx, osc.ReadSubregionsRequest{Filters: &f})).Subregions {
			names = append(names, *s.SubregionName)
			if s.LocationCode == nil || *s.LocationCode == "" {
				t.Errorf("%s has no location code", *s.SubregionName)
			}
		}
		return names
	}
	if got := subregions(osc.FiltersSubregion{}); !slices.Equal(got, []string{zone, "eu-west-2b", "eu-west-2c"}) {
		t.Errorf("subregions: %v", got)
	}
	if got := subregions(osc.FiltersSubregion{SubregionNames: &[]string{zone}, States: &[]string{"available"}, RegionNames: &[]string{home}}); !slices.Equal(got, []string{zone}) {
		t.Errorf("subregions by name: %v", got)
	}
	_, err := c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: "eu-west-2z", Size: ptr(1)})
	wantCode(t, err, "5999")
	_, err = c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: c.volume(), VmId: "i-00000000", DeviceName: "/dev/sdb"})
	wantCode(t, err, "5063")
	_, err = c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: "vol-00000000", VmId: "i-00000000", DeviceName: "/dev/sdb"})
	wantCode(t, err, "5063")
	_, err = c.LinkVolume(ctx, osc.LinkVolumeRequest{VolumeId: "vol-00000000", VmId: c.host(), DeviceName: "/dev/sdb"})
	wantCode(t, err, "5064")
}
