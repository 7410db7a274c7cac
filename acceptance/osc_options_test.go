package acceptance

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/outscale/osc-sdk-go/v3/pkg/middleware"
	"github.com/outscale/osc-sdk-go/v3/pkg/options"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"
	"github.com/outscale/osc-sdk-go/v3/pkg/profile"
)

// The other account of these tests, whose images are shared with the first.
const (
	otherAccount = "222222222222"
	otherKeyID   = "AKIAACCEPTANCE000002"
)

// newOutscaleBox is a box whose cloud has the other account too.
func newOutscaleBox(t *testing.T) *box {
	t.Helper()
	return newBox(t, "--key", otherKeyID+":"+secret+":"+otherAccount)
}

// outscaleAs is the SDK of the Outscale API for a key.
func (b *box) outscaleAs(key string) *osc.Client {
	b.t.Helper()
	c, err := osc.NewClient(&profile.Profile{
		AccessKey: key, SecretKey: secret, Region: region, Endpoints: profile.Endpoint{API: b.endpoint + "/api/v1"},
	}, middleware.WithBaseTransport(&http.Transport{}), options.WithoutRetry(), options.WithoutRatelimit(), options.WithoutLogging())
	b.must(err)
	return c
}

// omi reads the account's image of a name through the Outscale API.
func (b *box) omi(name string) osc.Image {
	b.t.Helper()
	got, err := b.outscale().ReadImages(b.t.Context(), osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageNames: &[]string{name}}})
	b.must(err)
	if n := len(*got.Images); n != 1 {
		b.t.Fatalf("there are %d images named %q, not one", n, name)
	}
	return (*got.Images)[0]
}

// snapshotOf reads the snapshot of an image's root device.
func (b *box) snapshotOf(i osc.Image) osc.Snapshot {
	b.t.Helper()
	for _, m := range *i.BlockDeviceMappings {
		if *m.DeviceName != *i.RootDeviceName {
			continue
		}
		got, err := b.outscale().ReadSnapshots(b.t.Context(), osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{SnapshotIds: &[]string{*m.Bsu.SnapshotId}}})
		b.must(err)
		return (*got.Snapshots)[0]
	}
	b.t.Fatalf("image %s has no root device", i.ImageId)
	panic("unreachable")
}

func outscaleTags(tags []osc.ResourceTag) map[string]string {
	all := map[string]string{}
	for _, t := range tags {
		all[t.Key] = t.Value
	}
	return all
}

// deviceList is an image's devices, one line each.
func deviceList(i osc.Image) []string {
	var all []string
	for _, m := range *i.BlockDeviceMappings {
		if m.Bsu == nil {
			all = append(all, aws.ToString(m.DeviceName)+" "+aws.ToString(m.VirtualDeviceName))
			continue
		}
		all = append(all, fmt.Sprintf("%s %d GiB %s iops=%d snapshot=%t deleted=%t", aws.ToString(m.DeviceName), aws.ToInt(m.Bsu.VolumeSize),
			*m.Bsu.VolumeType, aws.ToInt(m.Bsu.Iops), m.Bsu.SnapshotId != nil, aws.ToBool(m.Bsu.DeleteOnVmDeletion)))
	}
	return all
}

// opts are options as a template has them.
type opts = map[string]any

// oscOption is a build of a source that has much to inherit, what its options say,
// and how that is seen by the API afterwards.
type oscOption struct {
	name    string
	options opts
	check   func(b *box, made osc.Image, output string)
}

// want fails the test if got is not want.
func want[T any](b *box, what string, got, want T) {
	b.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		b.t.Errorf("%s is %s, want %s", what, g, w)
	}
}

var oscOptions = []oscOption{
	{"nothing is inherited by others", nil, func(b *box, made osc.Image, _ string) {
		want(b, "boot modes", made.BootModes, []osc.BootMode{"uefi"})
		want(b, "TPM", aws.ToBool(made.TpmMandatory), true)
		want(b, "product codes", *made.ProductCodes, []string{"0002"})
		want(b, "architecture", made.Architecture, "i386")
		want(b, "devices", deviceList(made), []string{
			"/dev/sda1 1 GiB standard iops=0 snapshot=true deleted=true",
			"/dev/sdb 4 GiB io1 iops=150 snapshot=false deleted=false",
			"/dev/sdc ephemeral0",
		})
		want(b, "launch permissions", len(*made.PermissionsToLaunch.AccountIds), 0)
		want(b, "global permission", *made.PermissionsToLaunch.GlobalPermission, false)
		snapshot := b.snapshotOf(made)
		want(b, "snapshot's permissions", len(*snapshot.PermissionsToCreateVolume.AccountIds), 0)
		want(b, "snapshot's global permission", *snapshot.PermissionsToCreateVolume.GlobalPermission, false)
	}},
	{"boot modes TPM product codes", opts{
		"omi_boot_modes": []string{"legacy", "uefi"}, "tpm_mandatory": false, "product_codes": []string{"0001", "0003"},
	}, func(b *box, made osc.Image, _ string) {
		want(b, "boot modes", made.BootModes, []osc.BootMode{"legacy", "uefi"})
		want(b, "TPM", aws.ToBool(made.TpmMandatory), false)
		want(b, "product codes", *made.ProductCodes, []string{"0001", "0003"})
	}},
	{"description and tags", opts{
		"omi_description": "of {{.SourceOMI}}, {{.SourceOMIName}}, in {{.BuildRegion}}, for {{.SourceOMITags.os}}",
		"tags":            opts{"region": "{{.BuildRegion}}", "both": "image"},
		"tag":             []opts{{"key": "block", "value": "of {{.SourceOMIName}}"}},
		"snapshot_tags":   opts{"from": "{{.SourceOMIName}} {{.BuildRegion}}", "both": "snapshot"},
		"snapshot_tag":    []opts{{"key": "cut", "value": "{{.BuildRegion}}"}},
	}, func(b *box, made osc.Image, _ string) {
		source := b.omi("rich")
		want(b, "description", *made.Description, "of "+source.ImageId+", rich, in "+region+", for plenty")
		want(b, "tags", outscaleTags(made.Tags), map[string]string{"region": region, "both": "image", "block": "of rich"})
		snapshot := b.snapshotOf(made)
		want(b, "the snapshot's description", *snapshot.Description, *made.Description)
		want(b, "the snapshot's tags", outscaleTags(*snapshot.Tags), map[string]string{
			"region": region, "both": "snapshot", "from": "rich " + region, "block": "of rich", "cut": region,
		})
	}},
	{"accounts of the image", opts{"omi_account_ids": []string{otherAccount}}, func(b *box, made osc.Image, _ string) {
		want(b, "launch permissions", *made.PermissionsToLaunch.AccountIds, []string{otherAccount})
		want(b, "snapshot's permissions", len(*b.snapshotOf(made).PermissionsToCreateVolume.AccountIds), 0)
	}},
	{"public image", opts{"global_permission": true}, func(b *box, made osc.Image, _ string) {
		want(b, "global permission", *made.PermissionsToLaunch.GlobalPermission, true)
		want(b, "snapshot's global permission", *b.snapshotOf(made).PermissionsToCreateVolume.GlobalPermission, false)
	}},
	{"users of the snapshot", opts{"snapshot_users": []string{otherAccount}}, func(b *box, made osc.Image, _ string) {
		want(b, "launch permissions", len(*made.PermissionsToLaunch.AccountIds), 0)
		want(b, "snapshot's permissions", *b.snapshotOf(made).PermissionsToCreateVolume.AccountIds, []string{otherAccount})
	}},
	{"public snapshot", opts{"snapshot_groups": []string{"all"}}, func(b *box, made osc.Image, _ string) {
		want(b, "global permission", *made.PermissionsToLaunch.GlobalPermission, false)
		want(b, "snapshot's global permission", *b.snapshotOf(made).PermissionsToCreateVolume.GlobalPermission, true)
	}},
	{"devices", opts{"omi_block_device_mappings": []opts{
		{"device_name": "xvda", "volume_size": 3, "volume_type": "gp2", "delete_on_vm_deletion": false},
		{"device_name": "/dev/xvdb", "no_device": true},
		{"device_name": "/dev/sdc", "volume_size": 4, "volume_type": "io1", "iops": 200, "delete_on_vm_deletion": true},
		{"device_name": "xvdd", "virtual_name": "ephemeral1"},
		{"device_name": "xvde", "snapshot_id": "SNAPSHOT", "delete_on_termination": true},
	}}, func(b *box, made osc.Image, output string) {
		want(b, "devices", deviceList(made), []string{
			"/dev/sda1 3 GiB gp2 iops=0 snapshot=true deleted=false",
			"/dev/sdc 4 GiB io1 iops=200 snapshot=false deleted=true",
			"/dev/xvdd ephemeral1",
			"/dev/xvde 1 GiB standard iops=0 snapshot=true deleted=true",
		})
		b.says(output, "please write delete_on_vm_deletion")
	}},
	{"root volume", opts{"root_volume_size": 5, "root_volume_type": "io1", "root_volume_iops": 300, "root_device_name": "xvdf",
		"omi_block_device_mappings": []opts{{"device_name": "/dev/sdf", "delete_on_vm_deletion": true}}}, func(b *box, made osc.Image, output string) {
		want(b, "root device", *made.RootDeviceName, "/dev/sda1")
		want(b, "root volume", deviceList(made)[0], "/dev/sda1 5 GiB io1 iops=300 snapshot=true deleted=true")
		b.says(output, "root_device_name xvdf stands for it")
	}},
	{"aliases", opts{"omi_name": nil, "ami_name": "aliases", "ami_virtualization_type": "hvm"}, func(b *box, _ osc.Image, output string) {
		b.says(output, "ami_name is taken for omi_name: please write omi_name", "please write omi_virtualization_type")
	}},
	{"source by filter", opts{"source_omi": nil, "source_omi_filter": opts{
		"filters": opts{"virtualization-type": "hvm", "image-name": "ri*", "root-device-type": "ebs", "tag:os": "plenty"}, "owners": []string{"self"},
	}}, func(b *box, made osc.Image, _ string) {
		want(b, "product codes", *made.ProductCodes, []string{"0002"})
	}},
	{"the newest source", opts{"source_omi": nil, "source_omi_filter": opts{
		"filters": opts{"image-name": "*", "product-code": "0002", "tag:os": "plenty"}, "owners": []string{"self"}, "most_recent": true,
	}}, func(b *box, made osc.Image, _ string) {
		want(b, "product codes", *made.ProductCodes, []string{"0002"})
	}},
	{"source by filter and id", opts{"source_omi_filter": opts{"owners": []string{"self"}}}, func(b *box, made osc.Image, _ string) {
		want(b, "product codes", *made.ProductCodes, []string{"0002"})
	}},
	{"a region that nobody asks about", opts{"skip_region_validation": true}, func(b *box, _ osc.Image, _ string) {
		if slices.ContainsFunc(b.calls(), func(c call) bool { return c.Action == "ReadRegions" }) {
			b.t.Error("the regions are asked for")
		}
	}},
}

// says fails the test if something is missing in what a build printed.
func (b *box) says(output string, parts ...string) {
	b.t.Helper()
	for _, part := range parts {
		if !strings.Contains(flat(output), part) {
			b.t.Errorf("the output does not say %q:\n%s", part, output)
		}
	}
}

// rich registers an image that has all that can be inherited, of the source's
// snapshot.
func (b *box) rich() (id, snapshot string) {
	b.t.Helper()
	ctx, c := b.t.Context(), b.outscale()
	snapshot = b.snapshotOf(b.omi("busybox")).SnapshotId
	name, root, arch, yes, gib, io1, iops := "rich", "/dev/sda1", "i386", true, 4, osc.VolumeTypeIo1, 150
	second, third, ephemeral, no := "/dev/sdb", "/dev/sdc", "ephemeral0", false
	made, err := c.CreateImage(ctx, osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root, Architecture: &arch, TpmMandatory: &yes,
		BootModes: &[]osc.BootMode{"uefi"}, ProductCodes: &[]string{"0002"},
		BlockDeviceMappings: &[]osc.BlockDeviceMappingImage{
			{DeviceName: &root, Bsu: &osc.BsuToCreate{SnapshotId: &snapshot}},
			{DeviceName: &second, Bsu: &osc.BsuToCreate{VolumeSize: &gib, VolumeType: &io1, Iops: &iops, DeleteOnVmDeletion: &no}},
			{DeviceName: &third, VirtualDeviceName: &ephemeral},
		},
	})
	b.must(err)
	_, err = c.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{made.Image.ImageId}, Tags: []osc.ResourceTag{{Key: "os", Value: "plenty"}}})
	b.must(err)
	return made.Image.ImageId, snapshot
}

// TestOSCOptions builds with each option and reads its effect back.
func TestOSCOptions(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	source, snapshot := b.rich()
	for _, o := range oscOptions {
		t.Run(o.name, func(t *testing.T) {
			b := *b
			b.t = t
			given := opts{"source_omi": source, "omi_name": o.name}
			for k, v := range o.options {
				given[k] = v
			}
			if devices, ok := given["omi_block_device_mappings"].([]opts); ok {
				for _, device := range devices {
					if device["snapshot_id"] != nil {
						device["snapshot_id"] = snapshot
					}
				}
			}
			b.calls()
			output := b.build(b.template(flavors[1].basic(given), shell("true")))
			o.check(&b, b.omi(o.name), output)
		})
	}
}

// TestOSCRootVolumeTags looks at the volume while a provisioner waits.
func TestOSCRootVolumeTags(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	seen := filepath.Join(b.dir, "seen")
	template := b.template(flavors[1].basic(opts{
		"root_volume_tags": opts{"of": "{{.SourceOMIName}} {{.BuildRegion}}"},
		"root_volume_tag":  []opts{{"key": "block", "value": "{{.SourceOMI}}"}},
	}),
		map[string]any{"type": "shell-local", "inline": []string{"while ! [ -e " + seen + " ]; do sleep 0.1; done"}})
	found := make(chan map[string]string, 1)
	go func() {
		defer b.write("seen", "")
		for begun := time.Now(); time.Since(begun) < deadline; time.Sleep(50 * time.Millisecond) {
			got, err := b.outscale().ReadVolumes(t.Context(), osc.ReadVolumesRequest{Filters: &osc.FiltersVolume{TagKeys: &[]string{"of"}}})
			if err == nil && len(*got.Volumes) == 1 {
				found <- outscaleTags((*got.Volumes)[0].Tags)
				return
			}
		}
		found <- nil
	}()
	b.build(template)
	if tags := <-found; tags["of"] != "busybox "+region || tags["block"] != sourceID || tags["packer-chroot-build"] == "" {
		t.Errorf("the volume was tagged %v", tags)
	}
}

// foreign copies the source to the other account, and shares it, with its snapshot
// if so wanted.
func (b *box) foreign(name string, withSnapshot bool) string {
	b.t.Helper()
	ctx, mine, theirs, from := b.t.Context(), b.outscale(), b.outscaleAs(otherKeyID), region
	all := true
	everybody := osc.PermissionsOnResourceCreation{Additions: &osc.PermissionsOnResource{GlobalPermission: &all}}
	source := b.omi("busybox")
	_, err := mine.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: source.ImageId, PermissionsToLaunch: &everybody})
	b.must(err)
	_, err = mine.UpdateSnapshot(ctx, osc.UpdateSnapshotRequest{SnapshotId: b.snapshotOf(source).SnapshotId, PermissionsToCreateVolume: everybody})
	b.must(err)
	copied, err := theirs.CreateImage(ctx, osc.CreateImageRequest{ImageName: &name, SourceImageId: &source.ImageId, SourceRegionName: &from})
	b.must(err)
	_, err = theirs.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: copied.Image.ImageId, PermissionsToLaunch: &everybody})
	b.must(err)
	if withSnapshot {
		for _, m := range *copied.Image.BlockDeviceMappings {
			_, err := theirs.UpdateSnapshot(ctx, osc.UpdateSnapshotRequest{SnapshotId: *m.Bsu.SnapshotId, PermissionsToCreateVolume: everybody})
			b.must(err)
		}
	}
	return copied.Image.ImageId
}

// TestOSCForeignSource builds from an image of somebody else's: directly where its
// snapshot may be used, else from a copy, which is gone at the end. Templates speak
// of the image that the user chose.
func TestOSCForeignSource(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	open, shut := b.foreign("open", true), b.foreign("shut", false)
	for _, test := range []struct {
		source, name string
		copies       bool
	}{{open, "open", false}, {shut, "shut", true}} {
		t.Run(test.name, func(t *testing.T) {
			b := *b
			b.t = t
			before := len(b.inventory())
			b.calls()
			b.build(b.template(flavors[1].basic(opts{
				"source_omi": nil, "source_omi_filter": opts{"filters": opts{"image-name": test.name}, "owners": []string{otherAccount}},
				"omi_name": "of " + test.name, "omi_description": "{{.SourceOMI}} {{.SourceOMIName}}",
			}), shell("echo here > /root/mark")))
			images := 0
			for _, c := range b.calls() {
				if c.Action == "CreateImage" {
					images++
				}
			}
			made := b.omi("of " + test.name)
			want(&b, "description", *made.Description, test.source+" "+test.name)
			want(&b, "copied", images == 2, test.copies)
			want(&b, "what is more in the cloud", len(b.inventory())-before, 2) // an image and its snapshot
			want(&b, "content", b.content(b.disk(made.ImageId), "/root/mark"), "here\n")
		})
	}
}

// foreignOf is an image of the other account with these devices beside its root, of
// which this account may use no snapshot. It has all other attributes that an image can
// inherit.
func (b *box) foreignOf(name string, devices ...string) string {
	b.t.Helper()
	ctx, theirs, root, all := b.t.Context(), b.outscaleAs(otherKeyID), "/dev/sda1", true
	one := b.foreign("one of "+name, false)
	got, err := theirs.ReadImages(ctx, osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageIds: &[]string{one}}})
	b.must(err)
	snapshot := *(*(*got.Images)[0].BlockDeviceMappings)[0].Bsu.SnapshotId
	var mappings []osc.BlockDeviceMappingImage
	for _, device := range append([]string{root}, devices...) {
		mappings = append(mappings, osc.BlockDeviceMappingImage{DeviceName: &device, Bsu: &osc.BsuToCreate{SnapshotId: &snapshot}})
	}
	many, err := theirs.CreateImage(ctx, osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root, BlockDeviceMappings: &mappings,
		TpmMandatory: &all, BootModes: &[]osc.BootMode{"uefi"}, ProductCodes: &[]string{"0002"},
	})
	b.must(err)
	_, err = theirs.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: many.Image.ImageId, PermissionsToLaunch: &osc.PermissionsOnResourceCreation{
		Additions: &osc.PermissionsOnResource{GlobalPermission: &all},
	}})
	b.must(err)
	return many.Image.ImageId
}

// TestOSCForeignSourceOfManyDevices: the image keeps a further device of a copied
// source, with the copy's snapshot, which is not the account's own otherwise. It is
// tagged and shared as the root's.
func TestOSCForeignSourceOfManyDevices(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	two := b.foreignOf("two devices", "/dev/sdb")
	before := len(b.inventory())
	output := b.build(b.template(flavors[1].basic(opts{
		"source_omi": two, "omi_name": "made of two", "snapshot_tags": opts{"of": "two"}, "snapshot_users": []string{otherAccount},
	}), shell("true")))
	made := b.omi("made of two")
	want(b, "boot modes", made.BootModes, []osc.BootMode{"uefi"})
	want(b, "TPM", aws.ToBool(made.TpmMandatory), true)
	want(b, "product codes", *made.ProductCodes, []string{"0002"})
	want(b, "devices", deviceList(made), []string{
		"/dev/sda1 1 GiB standard iops=0 snapshot=true deleted=true", "/dev/sdb 1 GiB standard iops=0 snapshot=true deleted=true",
	})
	if strings.Contains(output, "could not") {
		t.Errorf("something is left:\n%s", output)
	}
	want(b, "what is more in the cloud", len(b.inventory())-before, 3) // the image, its snapshot, and its other device's
	for _, m := range *made.BlockDeviceMappings {
		got, err := b.outscale().ReadSnapshots(t.Context(), osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{SnapshotIds: &[]string{*m.Bsu.SnapshotId}}})
		b.must(err)
		snapshot := (*got.Snapshots)[0]
		want(b, "tags of "+*m.DeviceName, outscaleTags(*snapshot.Tags), map[string]string{"of": "two"})
		want(b, "users of "+*m.DeviceName, *snapshot.PermissionsToCreateVolume.AccountIds, []string{otherAccount})
	}
}

// TestOSCForeignSourceOfManyDevicesIsDestroyed with all that was copied for the image,
// but for what another image has come to use by then.
func TestOSCForeignSourceOfManyDevicesIsDestroyed(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	made, after := filepath.Join(b.dir, "made"), filepath.Join(b.dir, "after")
	template := b.write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [%s], "post-processors": [[
		{"type": "shell-local", "inline": ["touch %s", "until test -e %s; do sleep 0.1; done"]},
		{"type": "artifice", "files": [%q], "keep_input_artifact": false}]]}`,
		toJSON(flavors[1].basic(opts{"source_omi": b.foreignOf("three devices", "/dev/sdb", "/dev/sdc"), "omi_name": "passing"})),
		toJSON(shell("true")), made, after, b.write("file", "in place of the image\n")))
	before := b.inventory()
	ended := make(chan string, 1)
	go func() {
		out, err := b.packer("build", "-color=false", template)
		ended <- fmt.Sprintf("%s\n%v", out, err)
	}()
	for !exists(made) {
		select {
		case out := <-ended:
			t.Fatalf("the build ended before its post-processors: %s", out)
		case <-time.After(50 * time.Millisecond):
		}
	}
	name, root, further := "later", "/dev/sda1", ""
	for _, m := range *b.omi("passing").BlockDeviceMappings {
		if *m.DeviceName == "/dev/sdb" {
			further = *m.Bsu.SnapshotId
		}
	}
	later, err := b.outscale().CreateImage(t.Context(), osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root, BlockDeviceMappings: &[]osc.BlockDeviceMappingImage{{DeviceName: &root, Bsu: &osc.BsuToCreate{SnapshotId: &further}}},
	})
	b.must(err)
	b.write("after", "")
	if out := <-ended; !strings.HasSuffix(out, "<nil>") {
		t.Errorf("packer build: %s", out)
	}
	b.clean()
	want(b, "what is more in the cloud", len(b.inventory())-len(before), 2) // the later image and its snapshot
	_, err = b.outscale().DeleteImage(t.Context(), osc.DeleteImageRequest{ImageId: later.Image.ImageId})
	b.must(err)
	_, err = b.outscale().DeleteSnapshot(t.Context(), osc.DeleteSnapshotRequest{SnapshotId: further})
	b.must(err)
	b.unchanged(before)
}

// TestOSCRefusals: what is refused, with what is said, and nothing created.
func TestOSCRefusals(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	b.foreign("taken", false) // another account's name is not in the way
	before := b.inventory()
	filter := func(more opts) opts {
		return opts{"source_omi": nil, "source_omi_filter": more}
	}
	for _, test := range []struct {
		name    string
		options opts
		says    []string
	}{
		{"unknown filter", filter(opts{"filters": opts{"colour": "red"}, "owners": []string{"self"}}), []string{`"colour"`, "image-name"}},
		{"no owners", filter(opts{"filters": opts{"image-name": "busybox"}}), []string{"source_omi_filter", "owners is required"}},
		{"nobody's", filter(opts{"filters": opts{"image-name": "nothing"}, "owners": []string{"self"}}), []string{"finds no image", `image-name "nothing"`}},
		{"pinned to another", opts{"source_omi_filter": opts{"filters": opts{"image-name": "nothing"}, "owners": []string{"self"}}}, []string{"source_omi " + sourceID, "is not what source_omi_filter wants"}},
		{"several", filter(opts{"filters": opts{"root-device-type": "bsu"}, "owners": []string{"self", otherAccount}}), []string{"finds 2 images", "taken", "busybox", "most_recent"}},
		{"paravirtual", opts{"omi_virtualization_type": "paravirtual"}, []string{"omi_virtualization_type", "hvm only"}},
		{"account", opts{"omi_account_ids": []string{"me"}}, []string{`omi_account_ids[0] is "me"`}},
		{"group", opts{"snapshot_groups": []string{"some"}}, []string{`snapshot_groups[0] is "some"`}},
		{"boot mode", opts{"omi_boot_modes": []string{"bios"}}, []string{`omi_boot_modes[0] is "bios"`}},
		{"size", opts{"root_volume_size": 20000}, []string{"20000", "14901"}},
		{"IOPS", opts{"root_volume_iops": 100}, []string{"root_volume_iops is 100", "gp2"}},
		{"profile", opts{"profile": "none"}, []string{`profile "none"`}},
		{"VM", opts{"vm_id": "i-00000000"}, []string{"i-00000000", "are the keys those of the VM's account"}},
		{"metadata", opts{"custom_endpoint_metadata": "http://127.0.0.1:1"}, []string{"127.0.0.1:1", "vm_id"}},
		{"certificate", opts{"x509_cert_path": "/nowhere", "x509_key_path": "/nowhere"}, []string{"x509_cert_path", "/nowhere"}},
		{"half a certificate", opts{"x509_cert_path": "/nowhere"}, []string{"x509_cert_path is given without x509_key_path"}},
		{"region", opts{"region": "mars-1"}, []string{"mars-1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := *b
			b.t = t
			b.fails(b.template(flavors[1].basic(test.options), shell("true")), test.says...)
			b.unchanged(before)
		})
	}
}

// TestOSCForceDeregister replaces the account's own image, and not another's of the
// same name.
func TestOSCForceDeregister(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	b.foreign("busy", false)
	template := flavors[1].basic(opts{"omi_name": "busy", "force_deregister": true, "force_delete_snapshot": true})
	b.build(b.template(template, shell("true")))
	own := func() []string {
		got, err := b.outscale().ReadImages(t.Context(), osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageNames: &[]string{"busy"}}})
		b.must(err)
		var ids []string
		for _, i := range *got.Images {
			ids = append(ids, i.AccountId+" "+i.ImageId)
		}
		slices.Sort(ids)
		return ids
	}
	first, things := own(), len(b.inventory())
	b.build(b.template(template, shell("true")))
	second := own()
	if len(first) != 2 || len(second) != 2 || first[0] == second[0] || first[1] != second[1] {
		t.Errorf("there were %v, and then %v", first, second)
	}
	want(b, "things in the cloud", len(b.inventory()), things)
}

// tls is the box's cloud behind TLS with a certificate that nobody knows. It notes
// whether a client shows one.
func (b *box) tls(shown *atomic.Bool) string {
	b.t.Helper()
	to, err := url.Parse(b.endpoint)
	b.must(err)
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
		shown.Store(len(r.In.TLS.PeerCertificates) > 0)
	}})
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	b.t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "https://")
}

// TestOSCAccess reaches the cloud in all ways that there are, with an environment
// that says nothing of it.
func TestOSCAccess(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	var shown atomic.Bool
	host := b.tls(&shown)
	vms, err := b.outscale().ReadVms(t.Context(), osc.ReadVmsRequest{})
	b.must(err)
	b.sh("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=packer -keyout " + b.dir + "/key.pem -out " + b.dir + "/cert.pem 2>/dev/null")
	b.write("config.json", fmt.Sprintf(`{"work": {"access_key": %q, "secret_key": %q, "region": %q, "endpoints": {"api": %q}}}`, keyID, secret, region, b.endpoint))
	keys := opts{"access_key": keyID, "secret_key": secret, "region": region}
	metadata := opts{"custom_endpoint_metadata": b.endpoint}
	file := "OSC_CONFIG_FILE=" + filepath.Join(b.dir, "config.json")
	for i, test := range []struct {
		name    string
		options []opts
		env     []string
		shown   bool
	}{
		{"template", []opts{keys, metadata, {"custom_endpoint_oapi": b.endpoint}}, nil, false},
		{"TLS, host alone", []opts{keys, metadata, {"custom_endpoint_oapi": host, "insecure_skip_tls_verify": true}}, nil, false},
		{"client certificate", []opts{keys, metadata, {"custom_endpoint_oapi": host, "insecure_skip_tls_verify": true,
			"x509_cert_path": filepath.Join(b.dir, "cert.pem"), "x509_key_path": filepath.Join(b.dir, "key.pem")}}, nil, true},
		{"VM by its id", []opts{keys, {"custom_endpoint_oapi": b.endpoint, "vm_id": (*vms.Vms)[0].VmId, "custom_endpoint_metadata": "http://127.0.0.1:1"}}, nil, false},
		{"profile", []opts{metadata, {"profile": "work"}}, []string{file}, false},
		{"profile of the environment", []opts{metadata}, []string{file, "OSC_PROFILE=work"}, false},
		{"older variables", []opts{metadata}, []string{"OUTSCALE_ACCESSKEYID=" + keyID, "OUTSCALE_SECRETKEYID=" + secret,
			"OUTSCALE_REGION=" + region, "OUTSCALE_OAPI_URL=" + b.endpoint + "/api/v1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := *b
			b.t = t
			b.env = append(slices.DeleteFunc(slices.Clone(b.env), func(e string) bool { return strings.HasPrefix(e, "OSC_") }), test.env...)
			given := opts{"omi_name": fmt.Sprint("access ", i)}
			for _, o := range test.options {
				for k, v := range o {
					given[k] = v
				}
			}
			shown.Store(false)
			output := b.build(b.template(flavors[1].basic(given), shell("true")))
			b.says(output, region+": "+b.omi(fmt.Sprint("access ", i)).ImageId)
			if shown.Load() != test.shown {
				t.Errorf("a certificate is shown: %v", shown.Load())
			}
			if strings.Contains(output, secret) {
				t.Error("the secret key is in the output")
			}
		})
	}
}
