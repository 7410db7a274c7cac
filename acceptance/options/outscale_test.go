package options

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
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
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// newOutscaleBox returns a box with a second account in its cloud.
func newOutscaleBox(t *testing.T) *harness.Box {
	t.Helper()
	return harness.New(t, "--key", harness.OtherKeyID+":"+harness.Secret+":"+harness.OtherAccount)
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

// oscOption is a build of a source with every inheritable attribute, its options, and a check of the image by the API.
type oscOption struct {
	name    string
	options opts
	check   func(b *harness.Box, made osc.Image, output string)
}

var oscOptions = []oscOption{
	{"nothing is inherited by others", nil, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "boot modes", made.BootModes, []osc.BootMode{"uefi"})
		harness.Want(b, "TPM", aws.ToBool(made.TpmMandatory), true)
		harness.Want(b, "product codes", *made.ProductCodes, []string{"0002"})
		harness.Want(b, "architecture", made.Architecture, "i386")
		harness.Want(b, "devices", deviceList(made), []string{
			"/dev/sda1 1 GiB standard iops=0 snapshot=true deleted=true",
			"/dev/sdb 4 GiB io1 iops=150 snapshot=false deleted=false",
			"/dev/sdc ephemeral0",
		})
		harness.Want(b, "launch permissions", len(*made.PermissionsToLaunch.AccountIds), 0)
		harness.Want(b, "global permission", *made.PermissionsToLaunch.GlobalPermission, false)
		snapshot := b.OutscaleSnapshot(made)
		harness.Want(b, "snapshot's permissions", len(*snapshot.PermissionsToCreateVolume.AccountIds), 0)
		harness.Want(b, "snapshot's global permission", *snapshot.PermissionsToCreateVolume.GlobalPermission, false)
	}},
	{"boot modes TPM product codes", opts{
		"omi_boot_modes": []string{"legacy", "uefi"}, "tpm_mandatory": false, "product_codes": []string{"0001", "0003"},
	}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "boot modes", made.BootModes, []osc.BootMode{"legacy", "uefi"})
		harness.Want(b, "TPM", aws.ToBool(made.TpmMandatory), false)
		harness.Want(b, "product codes", *made.ProductCodes, []string{"0001", "0003"})
	}},
	{"description and tags", opts{
		"omi_description": "of {{.SourceOMI}}, {{.SourceOMIName}}, in {{.BuildRegion}}, for {{.SourceOMITags.os}}",
		"tags":            opts{"region": "{{.BuildRegion}}", "both": "image"},
		"tag":             []opts{{"key": "block", "value": "of {{.SourceOMIName}}"}},
		"snapshot_tags":   opts{"from": "{{.SourceOMIName}} {{.BuildRegion}}", "both": "snapshot"},
		"snapshot_tag":    []opts{{"key": "cut", "value": "{{.BuildRegion}}"}},
	}, func(b *harness.Box, made osc.Image, _ string) {
		source := b.OutscaleImage("rich")
		harness.Want(b, "description", *made.Description, "of "+source.ImageId+", rich, in "+harness.Region+", for plenty")
		harness.Want(b, "tags", outscaleTags(made.Tags), map[string]string{"region": harness.Region, "both": "image", "block": "of rich"})
		snapshot := b.OutscaleSnapshot(made)
		harness.Want(b, "the snapshot's description", *snapshot.Description, *made.Description)
		harness.Want(b, "the snapshot's tags", outscaleTags(*snapshot.Tags), map[string]string{
			"region": harness.Region, "both": "snapshot", "from": "rich " + harness.Region, "block": "of rich", "cut": harness.Region,
		})
	}},
	{"accounts of the image", opts{"omi_account_ids": []string{harness.OtherAccount}}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "launch permissions", *made.PermissionsToLaunch.AccountIds, []string{harness.OtherAccount})
		harness.Want(b, "snapshot's permissions", len(*b.OutscaleSnapshot(made).PermissionsToCreateVolume.AccountIds), 0)
	}},
	{"public image", opts{"global_permission": true}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "global permission", *made.PermissionsToLaunch.GlobalPermission, true)
		harness.Want(b, "snapshot's global permission", *b.OutscaleSnapshot(made).PermissionsToCreateVolume.GlobalPermission, false)
	}},
	{"users of the snapshot", opts{"snapshot_users": []string{harness.OtherAccount}}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "launch permissions", len(*made.PermissionsToLaunch.AccountIds), 0)
		harness.Want(b, "snapshot's permissions", *b.OutscaleSnapshot(made).PermissionsToCreateVolume.AccountIds, []string{harness.OtherAccount})
	}},
	{"public snapshot", opts{"snapshot_groups": []string{"all"}}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "global permission", *made.PermissionsToLaunch.GlobalPermission, false)
		harness.Want(b, "snapshot's global permission", *b.OutscaleSnapshot(made).PermissionsToCreateVolume.GlobalPermission, true)
	}},
	{"devices", opts{"omi_block_device_mappings": []opts{
		{"device_name": "xvda", "volume_size": 3, "volume_type": "gp2", "delete_on_vm_deletion": false},
		{"device_name": "/dev/xvdb", "no_device": true},
		{"device_name": "/dev/sdc", "volume_size": 4, "volume_type": "io1", "iops": 200, "delete_on_vm_deletion": true},
		{"device_name": "xvdd", "virtual_name": "ephemeral1"},
		{"device_name": "xvde", "snapshot_id": "SNAPSHOT", "delete_on_termination": true},
	}}, func(b *harness.Box, made osc.Image, output string) {
		harness.Want(b, "devices", deviceList(made), []string{
			"/dev/sda1 3 GiB gp2 iops=0 snapshot=true deleted=false",
			"/dev/sdc 4 GiB io1 iops=200 snapshot=false deleted=true",
			"/dev/xvdd ephemeral1",
			"/dev/xvde 1 GiB standard iops=0 snapshot=true deleted=true",
		})
		b.Says(output, "please write delete_on_vm_deletion")
	}},
	{"root volume", opts{"root_volume_size": 5, "root_volume_type": "io1", "root_volume_iops": 300, "root_device_name": "xvdf",
		"omi_block_device_mappings": []opts{{"device_name": "/dev/sdf", "delete_on_vm_deletion": true}}}, func(b *harness.Box, made osc.Image, output string) {
		harness.Want(b, "root device", *made.RootDeviceName, "/dev/sda1")
		harness.Want(b, "root volume", deviceList(made)[0], "/dev/sda1 5 GiB io1 iops=300 snapshot=true deleted=true")
		b.Says(output, "root_device_name xvdf stands for it")
	}},
	{"aliases", opts{"omi_name": nil, "ami_name": "aliases", "ami_virtualization_type": "hvm"}, func(b *harness.Box, _ osc.Image, output string) {
		b.Says(output, "ami_name is read as omi_name: please write omi_name", "please write omi_virtualization_type")
	}},
	{"source by filter", opts{"source_omi": nil, "source_omi_filter": opts{
		"filters": opts{"virtualization-type": "hvm", "image-name": "ri*", "root-device-type": "ebs", "tag:os": "plenty"}, "owners": []string{"self"},
	}}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "product codes", *made.ProductCodes, []string{"0002"})
	}},
	{"the newest source", opts{"source_omi": nil, "source_omi_filter": opts{
		"filters": opts{"image-name": "*", "product-code": "0002", "tag:os": "plenty"}, "owners": []string{"self"}, "most_recent": true,
	}}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "product codes", *made.ProductCodes, []string{"0002"})
	}},
	{"source by filter and id", opts{"source_omi_filter": opts{"owners": []string{"self"}}}, func(b *harness.Box, made osc.Image, _ string) {
		harness.Want(b, "product codes", *made.ProductCodes, []string{"0002"})
	}},
	{"a region that nobody asks about", opts{"skip_region_validation": true}, func(b *harness.Box, _ osc.Image, _ string) {
		if slices.ContainsFunc(b.Calls(), func(c harness.Call) bool { return c.Action == "ReadRegions" }) {
			b.Error("the regions are asked for")
		}
	}},
}

// rich registers an image that has all that can be inherited, of the source's
// snapshot.
func rich(b *harness.Box) (id, snapshot string) {
	b.Helper()
	ctx, c := b.Context(), b.Outscale()
	snapshot = b.OutscaleSnapshot(b.OutscaleImage("busybox")).SnapshotId
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
	b.Must(err)
	_, err = c.CreateTags(ctx, osc.CreateTagsRequest{ResourceIds: []string{made.Image.ImageId}, Tags: []osc.ResourceTag{{Key: "os", Value: "plenty"}}})
	b.Must(err)
	return made.Image.ImageId, snapshot
}

// TestOSCOptions builds with each option and reads its effect back.
func TestOSCOptions(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	source, snapshot := rich(b)
	for _, o := range oscOptions {
		t.Run(o.name, func(t *testing.T) {
			b := b.In(t)
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
			b.Calls()
			output := b.Build(b.Template(harness.Flavors[1].Basic(given), harness.Shell("true")))
			o.check(b, b.OutscaleImage(o.name), output)
		})
	}
}

// TestOSCRootVolumeTags looks at the volume while a provisioner waits.
func TestOSCRootVolumeTags(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	seen := filepath.Join(b.Dir, "seen")
	template := b.Template(harness.Flavors[1].Basic(opts{
		"root_volume_tags": opts{"of": "{{.SourceOMIName}} {{.BuildRegion}}"},
		"root_volume_tag":  []opts{{"key": "block", "value": "{{.SourceOMI}}"}},
	}),
		map[string]any{"type": "shell-local", "inline": []string{"while ! [ -e " + seen + " ]; do sleep 0.1; done"}})
	found := make(chan map[string]string, 1)
	go func() {
		defer b.Write("seen", "")
		for begun := time.Now(); time.Since(begun) < harness.Deadline; time.Sleep(50 * time.Millisecond) {
			got, err := b.Outscale().ReadVolumes(t.Context(), osc.ReadVolumesRequest{Filters: &osc.FiltersVolume{TagKeys: &[]string{"of"}}})
			if err == nil && len(*got.Volumes) == 1 {
				found <- outscaleTags((*got.Volumes)[0].Tags)
				return
			}
		}
		found <- nil
	}()
	b.Build(template)
	if tags := <-found; tags["of"] != "busybox "+harness.Region || tags["block"] != harness.SourceID || tags["packer-chroot-build"] == "" {
		t.Errorf("the volume was tagged %v", tags)
	}
}

// TestOSCForeignSource builds from an image of another account: directly if its snapshot may be used, otherwise from a
// copy, which is removed at the end. Template variables refer to the image that the user chose.
func TestOSCForeignSource(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	open, shut := b.ForeignImage("open", true), b.ForeignImage("shut", false)
	for _, test := range []struct {
		source, name string
		copies       bool
	}{{open, "open", false}, {shut, "shut", true}} {
		t.Run(test.name, func(t *testing.T) {
			b := b.In(t)
			before := len(b.Inventory())
			b.Calls()
			b.Build(b.Template(harness.Flavors[1].Basic(opts{
				"source_omi": nil, "source_omi_filter": opts{"filters": opts{"image-name": test.name}, "owners": []string{harness.OtherAccount}},
				"omi_name": "of " + test.name, "omi_description": "{{.SourceOMI}} {{.SourceOMIName}}",
			}), harness.Shell("echo here > /root/mark")))
			images := 0
			for _, c := range b.Calls() {
				if c.Action == "CreateImage" {
					images++
				}
			}
			made := b.OutscaleImage("of " + test.name)
			harness.Want(b, "description", *made.Description, test.source+" "+test.name)
			harness.Want(b, "copied", images == 2, test.copies)
			harness.Want(b, "what is more in the cloud", len(b.Inventory())-before, 2) // an image and its snapshot
			harness.Want(b, "content", b.Content(b.Disk(made.ImageId), "/root/mark"), "here\n")
		})
	}
}

// foreignOf is an image of the other account with these devices beside its root, of
// which this account may use no snapshot. It has all other attributes that an image can
// inherit.
func foreignOf(b *harness.Box, name string, devices ...string) string {
	b.Helper()
	ctx, theirs, root, all := b.Context(), b.OutscaleAs(harness.OtherKeyID), "/dev/sda1", true
	one := b.ForeignImage("one of "+name, false)
	got, err := theirs.ReadImages(ctx, osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageIds: &[]string{one}}})
	b.Must(err)
	snapshot := *(*(*got.Images)[0].BlockDeviceMappings)[0].Bsu.SnapshotId
	var mappings []osc.BlockDeviceMappingImage
	for _, device := range append([]string{root}, devices...) {
		mappings = append(mappings, osc.BlockDeviceMappingImage{DeviceName: &device, Bsu: &osc.BsuToCreate{SnapshotId: &snapshot}})
	}
	many, err := theirs.CreateImage(ctx, osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root, BlockDeviceMappings: &mappings,
		TpmMandatory: &all, BootModes: &[]osc.BootMode{"uefi"}, ProductCodes: &[]string{"0002"},
	})
	b.Must(err)
	_, err = theirs.UpdateImage(ctx, osc.UpdateImageRequest{ImageId: many.Image.ImageId, PermissionsToLaunch: &osc.PermissionsOnResourceCreation{
		Additions: &osc.PermissionsOnResource{GlobalPermission: &all},
	}})
	b.Must(err)
	return many.Image.ImageId
}

// TestOSCForeignSourceOfManyDevices checks that the image keeps an additional device of a
// copied source, with the snapshot of the copy, which the account would not own otherwise. The
// snapshot is tagged and shared as the root's is.
func TestOSCForeignSourceOfManyDevices(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	two := foreignOf(b, "two devices", "/dev/sdb")
	before := len(b.Inventory())
	output := b.Build(b.Template(harness.Flavors[1].Basic(opts{
		"source_omi": two, "omi_name": "made of two", "snapshot_tags": opts{"of": "two"}, "snapshot_users": []string{harness.OtherAccount},
	}), harness.Shell("true")))
	made := b.OutscaleImage("made of two")
	harness.Want(b, "boot modes", made.BootModes, []osc.BootMode{"uefi"})
	harness.Want(b, "TPM", aws.ToBool(made.TpmMandatory), true)
	harness.Want(b, "product codes", *made.ProductCodes, []string{"0002"})
	harness.Want(b, "devices", deviceList(made), []string{
		"/dev/sda1 1 GiB standard iops=0 snapshot=true deleted=true", "/dev/sdb 1 GiB standard iops=0 snapshot=true deleted=true",
	})
	if strings.Contains(output, "could not") {
		t.Errorf("something is left:\n%s", output)
	}
	harness.Want(b, "what is more in the cloud", len(b.Inventory())-before, 3) // the image, its snapshot, and its other device's
	for _, m := range *made.BlockDeviceMappings {
		got, err := b.Outscale().ReadSnapshots(t.Context(), osc.ReadSnapshotsRequest{Filters: &osc.FiltersSnapshot{SnapshotIds: &[]string{*m.Bsu.SnapshotId}}})
		b.Must(err)
		snapshot := (*got.Snapshots)[0]
		harness.Want(b, "tags of "+*m.DeviceName, outscaleTags(*snapshot.Tags), map[string]string{"of": "two"})
		harness.Want(b, "users of "+*m.DeviceName, *snapshot.PermissionsToCreateVolume.AccountIds, []string{harness.OtherAccount})
	}
}

// TestOSCForeignSourceOfManyDevicesIsDestroyed checks that destroying an image removes everything that was copied for
// it, except a snapshot that another image uses by then.
func TestOSCForeignSourceOfManyDevicesIsDestroyed(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	made, after := filepath.Join(b.Dir, "made"), filepath.Join(b.Dir, "after")
	template := b.Write("template.json", fmt.Sprintf(`{"builders": [%s], "provisioners": [%s], "post-processors": [[
		{"type": "shell-local", "inline": ["touch %s", "until test -e %s; do sleep 0.1; done"]},
		{"type": "artifice", "files": [%q], "keep_input_artifact": false}]]}`,
		harness.ToJSON(harness.Flavors[1].Basic(opts{"source_omi": foreignOf(b, "three devices", "/dev/sdb", "/dev/sdc"), "omi_name": "passing"})),
		harness.ToJSON(harness.Shell("true")), made, after, b.Write("file", "in place of the image\n")))
	before := b.Inventory()
	ended := make(chan string, 1)
	go func() {
		out, err := b.Packer("build", "-color=false", template)
		ended <- fmt.Sprintf("%s\n%v", out, err)
	}()
	for !harness.Exists(made) {
		select {
		case out := <-ended:
			t.Fatalf("the build ended before its post-processors: %s", out)
		case <-time.After(50 * time.Millisecond):
		}
	}
	name, root, further := "later", "/dev/sda1", ""
	for _, m := range *b.OutscaleImage("passing").BlockDeviceMappings {
		if *m.DeviceName == "/dev/sdb" {
			further = *m.Bsu.SnapshotId
		}
	}
	later, err := b.Outscale().CreateImage(t.Context(), osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root, BlockDeviceMappings: &[]osc.BlockDeviceMappingImage{{DeviceName: &root, Bsu: &osc.BsuToCreate{SnapshotId: &further}}},
	})
	b.Must(err)
	b.Write("after", "")
	if out := <-ended; !strings.HasSuffix(out, "<nil>") {
		t.Errorf("packer build: %s", out)
	}
	b.Clean()
	harness.Want(b, "what is more in the cloud", len(b.Inventory())-len(before), 2) // the later image and its snapshot
	_, err = b.Outscale().DeleteImage(t.Context(), osc.DeleteImageRequest{ImageId: later.Image.ImageId})
	b.Must(err)
	_, err = b.Outscale().DeleteSnapshot(t.Context(), osc.DeleteSnapshotRequest{SnapshotId: further})
	b.Must(err)
	b.Unchanged(before)
}

// TestOSCRefusals checks that wrong options are refused with the right message before anything is created.
func TestOSCRefusals(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	b.ForeignImage("taken", false) // another account's name is not in the way
	before := b.Inventory()
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
		{"pinned to another", opts{"source_omi_filter": opts{"filters": opts{"image-name": "nothing"}, "owners": []string{"self"}}}, []string{"source_omi " + harness.SourceID, "is not what source_omi_filter wants"}},
		{"several", filter(opts{"filters": opts{"root-device-type": "bsu"}, "owners": []string{"self", harness.OtherAccount}}), []string{"finds 2 images", "taken", "busybox", "most_recent"}},
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
			b := b.In(t)
			b.Fails(b.Template(harness.Flavors[1].Basic(test.options), harness.Shell("true")), test.says...)
			b.Unchanged(before)
		})
	}
}

// TestOSCForceDeregister replaces the account's own image, and not another's of the
// same name.
func TestOSCForceDeregister(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := newOutscaleBox(t)
	b.ForeignImage("busy", false)
	template := harness.Flavors[1].Basic(opts{"omi_name": "busy", "force_deregister": true, "force_delete_snapshot": true})
	b.Build(b.Template(template, harness.Shell("true")))
	own := func() []string {
		got, err := b.Outscale().ReadImages(t.Context(), osc.ReadImagesRequest{Filters: &osc.FiltersImage{ImageNames: &[]string{"busy"}}})
		b.Must(err)
		var ids []string
		for _, i := range *got.Images {
			ids = append(ids, i.AccountId+" "+i.ImageId)
		}
		slices.Sort(ids)
		return ids
	}
	first, things := own(), len(b.Inventory())
	b.Build(b.Template(template, harness.Shell("true")))
	second := own()
	if len(first) != 2 || len(second) != 2 || first[0] == second[0] || first[1] != second[1] {
		t.Errorf("there were %v, and then %v", first, second)
	}
	harness.Want(b, "things in the cloud", len(b.Inventory()), things)
}

// tlsProxy returns the address of a TLS proxy with an unknown certificate before the box's cloud. It records whether a
// client shows a certificate.
func tlsProxy(b *harness.Box, shown *atomic.Bool) string {
	b.Helper()
	to, err := url.Parse(b.Endpoint)
	b.Must(err)
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
		shown.Store(len(r.In.TLS.PeerCertificates) > 0)
	}})
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	b.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "https://")
}

// TestOSCAccess reaches the cloud in all ways that there are, with an environment
// that says nothing of it.
func TestOSCAccess(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	var shown atomic.Bool
	host := tlsProxy(b, &shown)
	vms, err := b.Outscale().ReadVms(t.Context(), osc.ReadVmsRequest{})
	b.Must(err)
	b.Sh("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=packer -keyout " + b.Dir + "/key.pem -out " + b.Dir + "/cert.pem 2>/dev/null")
	b.Write("config.json", fmt.Sprintf(`{"work": {"access_key": %q, "secret_key": %q, "region": %q, "endpoints": {"api": %q}}}`, harness.KeyID, harness.Secret, harness.Region, b.Endpoint))
	keys := opts{"access_key": harness.KeyID, "secret_key": harness.Secret, "region": harness.Region}
	metadata := opts{"custom_endpoint_metadata": b.Endpoint}
	file := "OSC_CONFIG_FILE=" + filepath.Join(b.Dir, "config.json")
	for i, test := range []struct {
		name    string
		options []opts
		env     []string
		shown   bool
	}{
		{"template", []opts{keys, metadata, {"custom_endpoint_oapi": b.Endpoint}}, nil, false},
		{"TLS, host alone", []opts{keys, metadata, {"custom_endpoint_oapi": host, "insecure_skip_tls_verify": true}}, nil, false},
		{"client certificate", []opts{keys, metadata, {"custom_endpoint_oapi": host, "insecure_skip_tls_verify": true,
			"x509_cert_path": filepath.Join(b.Dir, "cert.pem"), "x509_key_path": filepath.Join(b.Dir, "key.pem")}}, nil, true},
		{"VM by its id", []opts{keys, {"custom_endpoint_oapi": b.Endpoint, "vm_id": (*vms.Vms)[0].VmId, "custom_endpoint_metadata": "http://127.0.0.1:1"}}, nil, false},
		{"profile", []opts{metadata, {"profile": "work"}}, []string{file}, false},
		{"profile of the environment", []opts{metadata}, []string{file, "OSC_PROFILE=work"}, false},
		{"older variables", []opts{metadata}, []string{"OUTSCALE_ACCESSKEYID=" + harness.KeyID, "OUTSCALE_SECRETKEYID=" + harness.Secret,
			"OUTSCALE_REGION=" + harness.Region, "OUTSCALE_OAPI_URL=" + b.Endpoint + "/api/v1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := b.In(t)
			b.Env = append(slices.DeleteFunc(slices.Clone(b.Env), func(e string) bool { return strings.HasPrefix(e, "OSC_") }), test.env...)
			given := opts{"omi_name": fmt.Sprint("access ", i)}
			for _, o := range test.options {
				for k, v := range o {
					given[k] = v
				}
			}
			shown.Store(false)
			output := b.Build(b.Template(harness.Flavors[1].Basic(given), harness.Shell("true")))
			b.Says(output, harness.Region+": "+b.OutscaleImage(fmt.Sprint("access ", i)).ImageId)
			if shown.Load() != test.shown {
				t.Errorf("a certificate is shown: %v", shown.Load())
			}
			if strings.Contains(output, harness.Secret) {
				t.Error("the secret key is in the output")
			}
		})
	}
}
