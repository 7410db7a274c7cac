package amazon

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/hashicorp/packer-plugin-sdk/template/config"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/builder"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// worldwide returns a Cloud that reaches every region.
func (tc *testCloud) worldwide(t *testing.T, opts Config) *Cloud {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL", tc.url)
	return NewCloud(dial(t, access("")), &opts, t.Logf)
}

// lookUp returns the facts that a build knows before it creates anything.
func lookUp(t *testing.T, cloud *Cloud) bake.Facts {
	t.Helper()
	var facts bake.Facts
	var err error
	if facts.Host, err = cloud.Host(context.Background()); err != nil {
		t.Fatal(err)
	}
	source, err := cloud.Source(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	facts.Source = &source
	return facts
}

// in reads an image of a region from the state.
func (tc *testCloud) in(t *testing.T, region string, id bake.ImageID) state.Image {
	t.Helper()
	for _, image := range tc.state.Images(state.Caller{Account: account.Account, Region: region}) {
		if image.ID == string(id) {
			return image
		}
	}
	t.Fatalf("no image %s in %s", id, region)
	return state.Image{}
}

// snapshot reads a snapshot of a region from the state.
func (tc *testCloud) snapshot(t *testing.T, region, id string) state.Snapshot {
	t.Helper()
	for _, s := range tc.state.Snapshots(state.Caller{Account: account.Account, Region: region}) {
		if s.ID == id {
			return s
		}
	}
	t.Fatalf("no snapshot %s in %s", id, region)
	return state.Snapshot{}
}

// published is an image with every option that publishes.
func published(t *testing.T, tc *testCloud, region string, id bake.ImageID, snapshots []bake.SnapshotID) {
	t.Helper()
	image := tc.in(t, region, id)
	want := state.Permissions{
		Accounts:            []string{"111111111111", "222222222222"},
		Organizations:       []string{"arn:aws:organizations::111111111111:organization/o-abcdefghij"},
		OrganizationalUnits: []string{"arn:aws:organizations::111111111111:ou/o-abcdefghij/ou-ab12-abcdefgh"},
	}
	if fmt.Sprint(image.Launch) != fmt.Sprint(want) {
		t.Errorf("%s may be launched by %+v", region, image.Launch)
	}
	if image.Protection != state.ProtectedWithoutCooldown || image.Deprecated.IsZero() || !slices.Equal(image.ProductCodes, []string{"code-1", "code-2"}) {
		t.Errorf("%s has the image %+v", region, image)
	}
	for _, id := range snapshots {
		if s := tc.snapshot(t, region, string(id)); !slices.Equal(s.CreateVolume.Accounts, []string{"333333333333"}) {
			t.Errorf("%s of %s is shared with %+v", id, region, s.CreateVolume)
		}
	}
}

// An image is copied, and published in each region. Existing images are shared with nobody.
func TestImageInTwoRegions(t *testing.T) {
	ctx := context.Background()
	tc := newTestCloud(t, state.Instant())
	opts := everything()
	opts.SourceAMI, opts.AMIRegions = tc.source, []string{"us-east-1", account.Region}
	opts.AMIOrgARNs = []string{"arn:aws:organizations::111111111111:organization/o-abcdefghij"}
	opts.AMIOUARNs = []string{"arn:aws:organizations::111111111111:ou/o-abcdefghij/ou-ab12-abcdefgh"}
	opts.AMIGroups, opts.SnapshotGroups = nil, nil // encrypted snapshots cannot be public
	opts.DeprecateAt = fromNow(365)
	opts.RegionKMSKeyIDs = map[string]string{"us-east-1": "alias/web"}
	cloud := tc.worldwide(t, opts)
	facts := lookUp(t, cloud)
	plan, err := cloud.Publication(ctx, facts)
	if err != nil || plan.Passing || len(plan.Copies) != 1 {
		t.Fatalf("publication %+v, %v", plan, err)
	}
	image := build(t, cloud, bake.VolumeSpec{Snapshot: facts.Source.Root.Snapshot, SizeGiB: 8}, facts.Source)
	there := cloud.In("us-east-1")
	ask := bake.CopySpec{
		Build: "b", Source: image, SourceRegion: account.Region, Name: "built", Description: "elsewhere",
		ImageTags: map[string]string{"of": "image"}, SnapshotTags: map[string]string{"of": "snapshot"},
		Encrypted: plan.Copies[0].Encrypted, KMSKeyID: plan.Copies[0].KMSKeyID,
	}
	copied, err := there.Copy(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := there.Copy(ctx, ask); err != nil || again != copied {
		t.Errorf("again %s, %v", again, err)
	}
	if found, err := there.FindCopies(ctx, image, "built"); err != nil || !slices.Equal(found, []bake.ImageID{copied}) {
		t.Errorf("copies %v, %v", found, err)
	}

	made := map[string]bake.Product{}
	for region, of := range map[string]bake.ImageID{account.Region: image, "us-east-1": copied} {
		seen, err := cloud.In(region).Image(ctx, of)
		if err != nil {
			t.Fatal(err)
		}
		made[region] = bake.Product{Region: region, Image: of, Snapshots: seen.Snapshots}
	}
	home := made[account.Region]
	home.Snapshots = home.Snapshots[:1] // the others are the source's
	made[account.Region] = home
	for region, p := range made {
		if err := cloud.In(region).Publish(ctx, bake.PublishSpec{Image: p.Image, Snapshots: p.Snapshots}); err != nil {
			t.Fatal(err)
		}
		published(t, tc, region, p.Image, p.Snapshots)
	}
	tc.isEncryptedCopy(t, tc.in(t, "us-east-1", copied))
	if s := tc.snapshot(t, account.Region, string(facts.Source.Snapshots[1])); len(s.CreateVolume.Accounts) > 0 {
		t.Error("the source's snapshot is shared")
	}
	for region, p := range made {
		if err := cloud.In(region).Deregister(ctx, p.Image); err != nil {
			t.Errorf("what this build protected cannot be undone: %v", err)
		}
	}
}

// isEncryptedCopy checks the tags and the keys of TestImageInTwoRegions' copy.
func (tc *testCloud) isEncryptedCopy(t *testing.T, image state.Image) {
	t.Helper()
	if image.Description != "elsewhere" || image.Tags["of"] != "image" || image.IMDS != "v2.0" || image.UEFIData == "" {
		t.Errorf("the copy is %+v", image)
	}
	key := state.KeyARN(state.Caller{Account: account.Account, Region: image.Region}, "alias/web")
	for _, m := range image.Mappings {
		if m.Volume == nil {
			continue
		}
		s := tc.snapshot(t, image.Region, m.Volume.SnapshotID)
		if !s.Encrypted || s.KMSKeyID != key || s.Tags["of"] != "snapshot" {
			t.Errorf("%s's snapshot is %+v", m.Device, s)
		}
	}
}

// encrypt_boot: all volumes of the image are encrypted under the key, by one copy if an
// additional device is not, and without a copy otherwise.
func TestEncryptBoot(t *testing.T) {
	for name, mappings := range map[string][]BlockDevice{"with a copy": nil, "without": {{BlockDevice: builder.BlockDevice{DeviceName: "/dev/sdf", VolumeSize: 1}}}} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			tc := newTestCloud(t, state.Instant())
			cloud := tc.worldwide(t, Config{SourceConfig: SourceConfig{SourceAMI: tc.source}, VolumeConfig: VolumeConfig{AMIBlockDeviceMappings: mappings}, EncryptionConfig: EncryptionConfig{EncryptBoot: config.TriTrue, KMSKeyID: "alias/boot"}})
			facts := lookUp(t, cloud)
			plan, err := cloud.Publication(ctx, facts)
			if err != nil {
				t.Fatal(err)
			}
			image := build(t, cloud, bake.VolumeSpec{Snapshot: facts.Source.Root.Snapshot, SizeGiB: 8, Encryption: plan.Root, Details: plan.Details}, facts.Source)
			for _, c := range plan.Copies {
				image, err = cloud.In(c.Region).Copy(ctx, bake.CopySpec{
					Build: "b", Source: image, SourceRegion: account.Region, Name: "final", Encrypted: c.Encrypted, KMSKeyID: c.KMSKeyID,
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if want := mappings == nil; plan.Passing != want || len(plan.Copies) > 1 {
				t.Errorf("publication %+v", plan)
			}
			key := state.KeyARN(account, "alias/boot")
			for _, m := range tc.find(t, image).Mappings {
				if m.Volume == nil || m.Volume.SnapshotID == "" {
					continue
				}
				if s := tc.snapshot(t, account.Region, m.Volume.SnapshotID); !s.Encrypted || s.KMSKeyID != key {
					t.Errorf("%s's snapshot is %+v", m.Device, s)
				}
			}
			for _, v := range tc.state.Volumes(account) {
				if v.Tags[bake.BuildTag] == "b" && v.Encrypted == plan.Passing {
					t.Errorf("the volume's encryption is %t", v.Encrypted)
				}
			}
		})
	}
}

// TestRestoredImageIsUnchanged checks that a restored image is the same except for its id.
func TestRestoredImageIsUnchanged(t *testing.T) {
	ctx := context.Background()
	tc := newTestCloud(t, state.Instant())
	cloud := tc.worldwide(t, Config{SourceConfig: SourceConfig{SourceAMI: tc.source}})
	facts := lookUp(t, cloud)
	id := build(t, cloud, bake.VolumeSpec{Snapshot: facts.Source.Root.Snapshot, SizeGiB: 8}, facts.Source)
	opts := Config{PublishConfig: PublishConfig{AMIUsers: []string{"111111111111"}, DeprecateAt: fromNow(365)}}
	if err := NewCloud(cloud.client, &opts, nil).Publish(ctx, bake.PublishSpec{Image: id}); err != nil {
		t.Fatal(err)
	}
	if err := tc.state.AddTags(account, []string{string(id)}, map[string]string{"os": "debian"}, false); err != nil {
		t.Fatal(err)
	}
	before := tc.find(t, id)
	record, err := cloud.Record(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Deregister(ctx, id); err != nil {
		t.Fatal(err)
	}
	var again bake.ImageID
	for range 2 {
		if again, err = restored(ctx, NewCloud(cloud.client, &Config{}, nil), record); err != nil {
			t.Fatal(err)
		}
	}
	after := tc.find(t, again)
	if again == id {
		t.Error("the same id")
	}
	before.ID, before.Created = after.ID, after.Created
	if a, b := fmt.Sprintf("%+v", after.ImageAttributes), fmt.Sprintf("%+v", before.ImageAttributes); a != b {
		t.Errorf("attributes %s, were %s", a, b)
	}
	if fmt.Sprint(after.Launch, after.Tags, after.Deprecated, after.Name) != fmt.Sprint(before.Launch, before.Tags, before.Deprecated, before.Name) {
		t.Errorf("image %+v, was %+v", after, before)
	}
	for i := range before.Mappings {
		a, b := after.Mappings[i], before.Mappings[i]
		if a.Device != b.Device || a.VirtualName != b.VirtualName || (a.Volume == nil) != (b.Volume == nil) || (a.Volume != nil && *a.Volume != *b.Volume) {
			t.Errorf("device %+v, was %+v", a, b)
		}
	}
	tc.protected(t, cloud, again)
}

// protected checks that a protected image is not replaced.
func (tc *testCloud) protected(t *testing.T, cloud *Cloud, id bake.ImageID) {
	t.Helper()
	if _, err := tc.state.ProtectImage(account, string(id), state.ProtectedWithCooldown, false); err != nil {
		t.Fatal(err)
	}
	_, err := cloud.Record(context.Background(), id)
	says(t, err, string(id), "enabled-with-cooldown")
}

// A build with a source filter and a volume with its own IOPS and throughput.
func TestFilteredSourceAndPerformance(t *testing.T) {
	ctx := context.Background()
	tc := newTestCloud(t, state.Instant())
	cloud := tc.worldwide(t, Config{
		SourceConfig: SourceConfig{SourceAMIFilter: SourceFilterConfig{Filters: map[string]string{"name": "ba*", "architecture": "x86_64"}, Owners: []string{"self"}, MostRecent: true}},
		ImageConfig:  ImageConfig{ENASupport: config.TriFalse, BootMode: "legacy-bios"},
		CopyConfig:   CopyConfig{AMIRegions: []string{"moon-1"}},
	})
	facts := lookUp(t, cloud)
	if string(facts.Source.ID) != tc.source || facts.Host.Account != account.Account {
		t.Errorf("facts %+v", facts)
	}
	_, err := cloud.Publication(ctx, facts)
	says(t, err, `"moon-1"`)

	volume := bake.VolumeSpec{
		Build: "b", Zone: facts.Host.Zone, Snapshot: facts.Source.Root.Snapshot, SizeGiB: 9, Type: "gp3", IOPS: 4000, Throughput: 300,
	}
	id, err := cloud.CreateVolume(ctx, volume)
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := cloud.CreateSnapshot(ctx, bake.SnapshotSpec{Volume: id})
	if err != nil {
		t.Fatal(err)
	}
	image, err := cloud.Register(ctx, bake.ImageSpec{
		Name: "fast", Snapshot: snapshot, Source: facts.Source, SizeGiB: 9, VolumeType: "gp3", IOPS: 4000, Throughput: 300,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range tc.state.Volumes(account) {
		if v.ID == string(id) && (v.IOPS != 4000 || v.Throughput != 300) {
			t.Errorf("volume %+v", v)
		}
	}
	found := tc.find(t, image)
	if root := found.Mappings[0].Volume; root.IOPS != 4000 || root.Throughput != 300 || root.SizeGiB != 9 {
		t.Errorf("root %+v", root)
	}
	if found.ENA || found.BootMode != "legacy-bios" || found.UEFIData != "" || found.SRIOV != "simple" {
		t.Errorf("attributes %+v", found.ImageAttributes)
	}
	seen, err := cloud.Image(ctx, image)
	if err != nil || seen.Root.Throughput != 300 || len(seen.Snapshots) != 2 || seen.Snapshots[0] != snapshot {
		t.Errorf("image %+v, %v", seen, err)
	}
}
