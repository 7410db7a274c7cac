package options

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// effect is a build with some options, and their effect as EC2 shows it.
type effect struct {
	name string
	give harness.O
	// check fails the test unless the image has the effect of the options.
	check func(*testing.T, *release)
}

// release is an image with the volume that it was created from.
type release struct {
	b      *harness.Box
	volume types.Volume
	image  types.Image
	root   types.Snapshot
	out    string
}

// effects are the options with an effect that EC2 shows.
func effects() []effect {
	const account, other = "123456789012", "210987654321"
	yearAway := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Minute)
	return []effect{
		{"tags", harness.O{
			"tags": harness.O{"a": "image", "region": "{{.BuildRegion}}"}, "tag": []harness.O{{"key": "from", "value": "{{.SourceAMI}}"}},
			"snapshot_tags": harness.O{"a": "snapshot"}, "snapshot_tag": []harness.O{{"key": "name", "value": "{{.SourceAMIName}}"}},
			"root_volume_tags": harness.O{"v": "{{.BuildRegion}}"}, "root_volume_tag": []harness.O{{"key": "w", "value": "x"}},
		}, func(t *testing.T, r *release) {
			same(t, "tags of the image", harness.TagsOf(r.image.Tags), map[string]string{"a": "image", "region": harness.Region, "from": harness.SourceID})
			same(t, "tags of the snapshot", harness.TagsOf(r.root.Tags), map[string]string{"a": "snapshot", "region": harness.Region, "from": harness.SourceID, "name": "busybox"})
			volume := harness.TagsOf(r.volume.Tags)
			if volume["v"] != harness.Region || volume["w"] != "x" || volume["a"] != "" {
				t.Errorf("tags of the volume: %v", volume)
			}
		}},
		{"description", harness.O{"ami_description": "{{.SourceAMIName}} of {{.BuildRegion}}"}, func(t *testing.T, r *release) {
			same(t, "description", aws.ToString(r.image.Description), "busybox of "+harness.Region)
		}},
		{"networking", harness.O{"ena_support": true, "sriov_support": true}, func(t *testing.T, r *release) {
			same(t, "enaSupport", aws.ToBool(r.image.EnaSupport), true)
			same(t, "sriovNetSupport", aws.ToString(r.image.SriovNetSupport), "simple")
		}},
		{"networking turned off", harness.O{"ena_support": false}, func(t *testing.T, r *release) {
			same(t, "enaSupport", aws.ToBool(r.image.EnaSupport), false)
		}},
		{"firmware", harness.O{"boot_mode": "uefi", "uefi_data": "QU1aTlVFRkk=", "tpm_support": "v2.0", "imds_support": "v2.0"}, func(t *testing.T, r *release) {
			same(t, "bootMode", r.image.BootMode, types.BootModeValuesUefi)
			same(t, "tpmSupport", r.image.TpmSupport, types.TpmSupportValuesV20)
			same(t, "imdsSupport", r.image.ImdsSupport, types.ImdsSupportValuesV20)
			same(t, "uefiData", r.attribute("uefiData").UefiData, &types.AttributeValue{Value: aws.String("QU1aTlVFRkk=")})
		}},
		{"architecture", harness.O{"ami_architecture": "x86_64", "ami_virtualization_type": "hvm"}, func(t *testing.T, r *release) {
			same(t, "architecture", r.image.Architecture, types.ArchitectureValuesX8664)
			same(t, "virtualization", r.image.VirtualizationType, types.VirtualizationTypeHvm)
		}},
		{"source_ami_filter", harness.O{"source_ami": nil, "source_ami_filter": harness.O{"owners": []string{"self"}, "filters": harness.O{"name": "busy*"}, "most_recent": true}, "tags": harness.O{"from": "{{.SourceAMI}}"}},
			func(t *testing.T, r *release) {
				same(t, "tags", harness.TagsOf(r.image.Tags), map[string]string{"from": harness.SourceID})
			}},
		{"performance", harness.O{"root_volume_type": "gp3", "root_volume_size": 10, "root_volume_iops": 4000, "root_volume_throughput": 500}, func(t *testing.T, r *release) {
			for what, got := range map[string][4]any{
				"the volume": {r.volume.VolumeType, aws.ToInt32(r.volume.Size), aws.ToInt32(r.volume.Iops), aws.ToInt32(r.volume.Throughput)},
				"the image":  {r.device().VolumeType, aws.ToInt32(r.device().VolumeSize), aws.ToInt32(r.device().Iops), aws.ToInt32(r.device().Throughput)},
			} {
				same(t, what, got, [4]any{types.VolumeTypeGp3, int32(10), int32(4000), int32(500)})
			}
		}},
		{"mappings", harness.O{"ami_block_device_mappings": []harness.O{
			{"device_name": "/dev/sdb", "volume_size": 10, "volume_type": "gp3", "iops": 4000, "throughput": 500, "delete_on_termination": true},
			{"device_name": "/dev/sdc", "virtual_name": "ephemeral0"},
		}}, func(t *testing.T, r *release) {
			got := map[string]string{}
			for _, m := range r.image.BlockDeviceMappings {
				got[aws.ToString(m.DeviceName)] = aws.ToString(m.VirtualName)
				if m.Ebs != nil {
					got[aws.ToString(m.DeviceName)] = fmt.Sprint(m.Ebs.VolumeType, aws.ToInt32(m.Ebs.VolumeSize), aws.ToInt32(m.Ebs.Iops), aws.ToInt32(m.Ebs.Throughput), aws.ToBool(m.Ebs.DeleteOnTermination))
				}
			}
			same(t, "sdb", got["/dev/sdb"], fmt.Sprint("gp3", 10, 4000, 500, true))
			same(t, "sdc", got["/dev/sdc"], "ephemeral0")
		}},
		{"mappings of a source that has some", plentiful(
			harness.O{"device_name": "/dev/sdc", "no_device": true},
			harness.O{"device_name": "/dev/sdd", "snapshot_id": "SNAPSHOT"},
			harness.O{"device_name": "/dev/sde", "volume_size": 5, "encrypted": true},
			harness.O{"device_name": "/dev/xvda", "encrypted": true, "kms_key_id": "alias/images"},
		), func(t *testing.T, r *release) {
			got := map[string]string{}
			for _, m := range r.image.BlockDeviceMappings {
				if name := aws.ToString(m.DeviceName); m.Ebs != nil && name != aws.ToString(r.image.RootDeviceName) {
					got[name] = fmt.Sprint(aws.ToInt32(m.Ebs.VolumeSize), " GiB of ", aws.ToString(m.Ebs.SnapshotId),
						" encrypted ", aws.ToBool(m.Ebs.Encrypted))
				}
			}
			same(t, "devices", got, map[string]string{
				"/dev/sdb": "2 GiB of  encrypted false",
				"/dev/sdd": "1 GiB of " + r.b.SourceSnapshot() + " encrypted false",
				"/dev/sde": "5 GiB of  encrypted true",
			})
			same(t, "the root is encrypted", aws.ToBool(r.root.Encrypted), true)
			if key := aws.ToString(r.volume.KmsKeyId); key == "" || key != aws.ToString(r.root.KmsKeyId) {
				t.Errorf("the volume's key is %q, the snapshot's %q", key, aws.ToString(r.root.KmsKeyId))
			}
		}},
		{"root_device_name", harness.O{"root_device_name": "/dev/xvda"}, func(t *testing.T, r *release) {
			same(t, "root", aws.ToString(r.image.RootDeviceName), "/dev/xvda")
		}},
		{"encryption of the volume", harness.O{"root_volume_encrypt_boot": true, "root_volume_kms_key_id": "alias/images"}, func(t *testing.T, r *release) {
			same(t, "the volume is encrypted", aws.ToBool(r.volume.Encrypted), true)
			same(t, "the snapshot is encrypted", aws.ToBool(r.root.Encrypted), true)
			same(t, "the snapshot's key", aws.ToString(r.root.KmsKeyId), aws.ToString(r.volume.KmsKeyId))
		}},
		{"encryption of the image", harness.O{"encrypt_boot": true, "kms_key_id": "alias/images"}, func(t *testing.T, r *release) {
			same(t, "the snapshot is encrypted", aws.ToBool(r.root.Encrypted), true)
		}},
		{"sharing", harness.O{"ami_users": []string{other}, "snapshot_users": []string{other, account}, "ami_product_codes": []string{"abc"}}, func(t *testing.T, r *release) {
			same(t, "who may launch", r.attribute("launchPermission").LaunchPermissions, []types.LaunchPermission{{UserId: aws.String(other)}})
			same(t, "who may make volumes", r.volumePermissions(), []string{account, other})
			same(t, "product codes", len(r.image.ProductCodes), 1)
		}},
		{"sharing with all", harness.O{"ami_groups": []string{"all"}, "snapshot_groups": []string{"all"}}, func(t *testing.T, r *release) {
			same(t, "public", aws.ToBool(r.image.Public), true)
			same(t, "who may make volumes", r.volumePermissions(), []string{"all"})
		}},
		{"sharing with organizations", harness.O{"ami_org_arns": []string{org}, "ami_ou_arns": []string{unit}}, func(t *testing.T, r *release) {
			var arns []string
			for _, p := range r.attribute("launchPermission").LaunchPermissions {
				arns = append(arns, aws.ToString(p.OrganizationArn)+aws.ToString(p.OrganizationalUnitArn))
			}
			same(t, "who may launch", sorted(arns), sorted([]string{org, unit}))
		}},
		{"life", harness.O{"deprecate_at": yearAway.Format(time.RFC3339), "deregistration_protection": harness.O{"enabled": true, "with_cooldown": true}}, func(t *testing.T, r *release) {
			at, err := time.Parse(time.RFC3339, aws.ToString(r.image.DeprecationTime))
			same(t, "deprecation", at.Equal(yearAway) && err == nil, true)
			if got := aws.ToString(r.image.DeregistrationProtection); !strings.HasPrefix(got, "enabled") || !strings.Contains(got, "cooldown") {
				t.Errorf("protection is %q", got)
			}
		}},
		{"copies", harness.O{"ami_regions": []string{harness.Elsewhere}, "tags": harness.O{"a": "b"}, "ami_users": []string{other}, "snapshot_copy_duration_minutes": 15}, func(t *testing.T, r *release) {
			copied := r.elsewhere()
			same(t, "name", aws.ToString(copied.Name), aws.ToString(r.image.Name))
			same(t, "tags", harness.TagsOf(copied.Tags), map[string]string{"a": "b"})
			if want := harness.Elsewhere + ": " + aws.ToString(copied.ImageId); !strings.Contains(r.out, want) {
				t.Errorf("the artifact does not name %s:\n%s", want, r.out)
			}
		}},
		{"copies encrypted", harness.O{"ami_regions": []string{harness.Elsewhere}, "encrypt_boot": true, "kms_key_id": "alias/here", "region_kms_key_ids": harness.O{harness.Elsewhere: "alias/there"}}, func(t *testing.T, r *release) {
			copied := r.elsewhere()
			there := r.snapshot(harness.Elsewhere, copied.BlockDeviceMappings)
			same(t, "encrypted", aws.ToBool(there.Encrypted) && aws.ToBool(r.root.Encrypted), true)
			if aws.ToString(there.KmsKeyId) == aws.ToString(r.root.KmsKeyId) {
				t.Errorf("both are encrypted with %s", aws.ToString(there.KmsKeyId))
			}
		}},
	}
}

// TestAmazonOptions builds an image for each row, all on one cloud, and checks the effect of the options.
func TestAmazonOptions(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	plenty(b)
	for i, e := range effects() {
		t.Run(e.name, func(t *testing.T) {
			e.check(t, released(b, t, fmt.Sprintf("effect %d", i), e.give))
		})
	}
}

// plenty makes an image with devices beside its root, /dev/sdb and /dev/sdc.
func plenty(b *harness.Box) {
	b.Helper()
	blank := func(name string) types.BlockDeviceMapping {
		return types.BlockDeviceMapping{DeviceName: aws.String(name), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(2)}}
	}
	_, err := b.Client().RegisterImage(context.Background(), &ec2.RegisterImageInput{
		Name: aws.String("plenty"), RootDeviceName: aws.String("/dev/xvda"), VirtualizationType: aws.String("hvm"),
		Architecture: types.ArchitectureValuesX8664, BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(b.SourceSnapshot())}},
			blank("/dev/sdb"), blank("/dev/sdc"),
		},
	})
	b.Must(err)
}

// plentiful are the options of a build of that image with block device mappings.
func plentiful(devices ...harness.O) harness.O {
	return harness.O{
		"source_ami": nil, "source_ami_filter": harness.O{"owners": []string{"self"}, "filters": harness.O{"name": "plenty"}},
		"ami_block_device_mappings": devices,
	}
}

// released builds an image, and looks at its volume while that is there.
func released(b *harness.Box, t *testing.T, name string, give harness.O) *release {
	t.Helper()
	r := &release{b: b}
	ready, on := filepath.Join(b.Dir, name+" ready"), filepath.Join(b.Dir, name+" on")
	options := harness.O{"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": name}
	for k, v := range give {
		if options[k] = v; v == nil {
			delete(options, k)
		}
	}
	for _, device := range asDevices(options["ami_block_device_mappings"]) {
		if device["snapshot_id"] == "SNAPSHOT" {
			device["snapshot_id"] = b.SourceSnapshot()
		}
	}
	template := b.Template(options, harness.O{"type": "shell-local", "inline": []string{
		"touch '" + ready + "'", "while [ ! -e '" + on + "' ]; do sleep 0.02; done",
	}})
	built := make(chan error, 1)
	go func() {
		out, err := b.Packer("build", "-color=false", template)
		r.out = out
		built <- err
	}()
	for !harness.Exists(ready) {
		select {
		case err := <-built:
			t.Fatalf("packer build ended before it provisioned: %v\n%s\n%s", err, r.out, b.Output)
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.volume = volumeBuiltOn(b, name)
	b.Must(os.WriteFile(on, nil, 0o600))
	if err := <-built; err != nil {
		t.Fatalf("packer build: %v\n%s\n%s", err, r.out, b.Output)
	}
	r.image = named(b, harness.Region, name)
	r.root = r.snapshot(harness.Region, r.image.BlockDeviceMappings)
	return r
}

// volumeBuiltOn is the volume of the build that is under way.
func volumeBuiltOn(b *harness.Box, name string) types.Volume {
	b.Helper()
	out, err := b.Client().DescribeVolumes(context.Background(), &ec2.DescribeVolumesInput{
		Filters: []types.Filter{{Name: aws.String("tag-key"), Values: []string{"packer-chroot-build"}}},
	})
	b.Must(err)
	if len(out.Volumes) != 1 {
		b.Fatalf("%q is built on %d volumes", name, len(out.Volumes))
	}
	return out.Volumes[0]
}

// named is the one image of a name in a region.
func named(b *harness.Box, region, name string) types.Image {
	b.Helper()
	out, err := b.ClientIn(region).DescribeImages(context.Background(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true),
		Filters: []types.Filter{{Name: aws.String("name"), Values: []string{name}}},
	})
	b.Must(err)
	if len(out.Images) != 1 {
		b.Fatalf("%d images of %s are named %q", len(out.Images), region, name)
	}
	return out.Images[0]
}

// elsewhere is the copy in the other region.
func (r *release) elsewhere() types.Image {
	r.b.Helper()
	return named(r.b, harness.Elsewhere, aws.ToString(r.image.Name))
}

// device is the image's root device.
func (r *release) device() *types.EbsBlockDevice {
	for _, m := range r.image.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == aws.ToString(r.image.RootDeviceName) {
			return m.Ebs
		}
	}
	r.b.Fatalf("image %s has no root device", aws.ToString(r.image.ImageId))
	return nil
}

// snapshot is the first of an image's block devices.
func (r *release) snapshot(region string, mappings []types.BlockDeviceMapping) types.Snapshot {
	r.b.Helper()
	out, err := r.b.ClientIn(region).DescribeSnapshots(context.Background(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{aws.ToString(mappings[0].Ebs.SnapshotId)}})
	r.b.Must(err)
	return out.Snapshots[0]
}

// attribute reads one attribute of the image.
func (r *release) attribute(name string) *ec2.DescribeImageAttributeOutput {
	r.b.Helper()
	out, err := r.b.Client().DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: r.image.ImageId, Attribute: types.ImageAttributeName(name),
	})
	r.b.Must(err)
	return out
}

// volumePermissions are the accounts and groups that may make volumes of the root's
// snapshot.
func (r *release) volumePermissions() []string {
	r.b.Helper()
	out, err := r.b.Client().DescribeSnapshotAttribute(context.Background(), &ec2.DescribeSnapshotAttributeInput{
		SnapshotId: r.root.SnapshotId, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
	})
	r.b.Must(err)
	var all []string
	for _, p := range out.CreateVolumePermissions {
		all = append(all, aws.ToString(p.UserId)+string(p.Group))
	}
	return sorted(all)
}

// asDevices are block device mappings of options, if there are any.
func asDevices(mappings any) []harness.O {
	devices, _ := mappings.([]harness.O)
	return devices
}

// same fails the test where two values differ.
func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(types.AttributeValue{}, types.LaunchPermission{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func sorted(texts []string) []string { return slices.Sorted(slices.Values(texts)) }

// TestAmazonOnlyElsewhere leaves no image where it is built.
func TestAmazonOnlyElsewhere(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	before := b.Inventory()
	out := b.Build(b.Template(harness.O{
		"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": "only elsewhere",
		"ami_regions": []string{harness.Elsewhere}, "skip_save_build_region": true, "skip_region_validation": true,
	}, harness.Shell("true")))
	b.Unchanged(before)
	if want := harness.Elsewhere + ": " + aws.ToString(named(b, harness.Elsewhere, "only elsewhere").ImageId); !strings.Contains(out, want) {
		t.Errorf("the artifact does not name %s:\n%s", want, out)
	}
}

// TestAmazonUnknownRegion checks that a region unknown to EC2 is refused before anything is created. With
// skip_region_validation EC2 is not asked for its regions, and the connection to the region fails.
func TestAmazonUnknownRegion(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	before := b.Inventory()
	options := harness.O{"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": "to Mars", "ami_regions": []string{"mars-north-1"}}
	b.Calls()
	b.Fails(b.Template(options, harness.Shell("true")), `ami_regions has "mars-north-1", which is no region that EC2 knows`)
	calls := b.Calls()
	same(t, "regions were asked for", made(calls, "ec2", "DescribeRegions"), true)
	same(t, "a volume was made", made(calls, "ec2", "CreateVolume"), false)

	options["skip_region_validation"] = true
	out := b.Fails(b.Template(options, harness.Shell("true")), "mars-north-1")
	same(t, "regions were asked for", made(b.Calls(), "ec2", "DescribeRegions"), false)
	if strings.Contains(out, "no region that EC2 knows") {
		t.Errorf("refused all the same:\n%s", out)
	}
	b.Unchanged(before)
}

// TestAmazonPolling checks that a snapshot that never completes is polled as often as
// aws_polling allows, set by an option or by the environment, and no more.
func TestAmazonPolling(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	before := b.Inventory()
	looks := func(options harness.O, env ...string) (n int) {
		t.Helper()
		all := harness.O{"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": "never"}
		maps.Copy(all, options)
		whole := b.Env
		b.Env = append(slices.Clone(whole), env...)
		b.Control(http.MethodPost, "faults", harness.O{"action": "CreateSnapshot", "outcome": "never"}, nil)
		b.Calls()
		b.Fails(b.Template(all, harness.Shell("true")), "snapshot", "pending")
		b.Control(http.MethodDelete, "faults", nil, nil)
		b.Env = whole
		after := false
		for _, c := range b.Calls() {
			switch {
			case c.Action == "CreateSnapshot":
				after = true
			case after && c.Action == "DescribeSnapshots":
				n++
			case after && c.Action == "DeleteSnapshot":
				after = false
			}
		}
		return n
	}
	for _, want := range []int{2, 4} {
		same(t, "looks by the options", looks(harness.O{"aws_polling": harness.O{"delay_seconds": 1, "max_attempts": want}}), want)
		same(t, "looks by the environment", looks(nil, "AWS_POLL_DELAY_SECONDS=1", fmt.Sprintf("AWS_MAX_ATTEMPTS=%d", want)), want)
	}
	b.Unchanged(before)
}

// TestAmazonReplaces checks that the second image of a name replaces the first, and that the old snapshot is deleted
// only on request.
func TestAmazonReplaces(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	build := func(more harness.O, args ...string) types.Image {
		t.Helper()
		options := harness.O{"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": "the one"}
		for k, v := range more {
			options[k] = v
		}
		b.Build(b.Template(options, harness.Shell("true")), args...)
		return named(b, harness.Region, "the one")
	}
	kept := func(image types.Image) bool {
		id := "snapshot " + aws.ToString(image.BlockDeviceMappings[0].Ebs.SnapshotId)
		return slices.ContainsFunc(b.Inventory(), func(line string) bool { return strings.HasPrefix(line, id+" ") })
	}
	first := build(nil)
	second := build(harness.O{"force_deregister": true})
	third := build(harness.O{"force_deregister": true, "force_delete_snapshot": true})
	fourth := build(nil, "-force")
	if !kept(first) || kept(second) || !kept(third) || !kept(fourth) {
		t.Errorf("snapshots kept: %t %t %t %t", kept(first), kept(second), kept(third), kept(fourth))
	}
	if id := aws.ToString(fourth.ImageId); id == aws.ToString(third.ImageId) {
		t.Errorf("%s was not replaced", id)
	}
	b.Fails(b.Template(harness.O{"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": "the one"}, harness.Shell("true")), "the one", aws.ToString(fourth.ImageId))
}

// TestAmazonEndpointsOfAWS checks the host names that the builder connects to, by a proxy that refuses all of them.
func TestAmazonEndpointsOfAWS(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	for want, give := range map[string]harness.O{
		"ec2." + harness.Region + ".amazonaws.com:443":      {},
		"ec2-fips." + harness.Region + ".amazonaws.com:443": {"use_fips_endpoint": true},
		"ec2." + harness.Region + ".api.aws:443":            {"use_dualstack_endpoint": true},
	} {
		b := harness.New(t)
		asked := make(chan string, 100)
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Host
			w.WriteHeader(http.StatusForbidden)
		}))
		defer proxy.Close()
		b.Env = append(b.Env, "AWS_ENDPOINT_URL=", "HTTPS_PROXY="+proxy.URL)
		options := harness.O{"type": "amazon-chroot", "source_ami": harness.SourceID, "ami_name": "never made", "max_retries": 1}
		for k, v := range give {
			options[k] = v
		}
		b.Fails(b.Template(options, harness.Shell("true")), "amazon-chroot")
		if len(asked) == 0 {
			t.Errorf("%v: the builder asks nobody", give)
		}
		for len(asked) > 0 {
			if got := <-asked; got != want {
				t.Errorf("%v: the builder asks %s, want %s", give, got, want)
			}
		}
	}
}
