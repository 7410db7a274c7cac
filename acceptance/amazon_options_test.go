package acceptance

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
)

// effect is a build with some options, and what of it can be read from EC2.
type effect struct {
	name string
	give o
	// check reads what the build made; it fails the test where that is not what the
	// options say.
	check func(*testing.T, *release)
}

// release is what a build made, and the volume that it was made on.
type release struct {
	b      *box
	volume types.Volume
	image  types.Image
	root   types.Snapshot
	out    string
}

const elsewhere = "us-east-1"

// effects are the options that show in what EC2 tells.
func effects() []effect {
	const account, other = "123456789012", "210987654321"
	yearAway := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Minute)
	return []effect{
		{"tags", o{
			"tags": o{"a": "image", "region": "{{.BuildRegion}}"}, "tag": []o{{"key": "from", "value": "{{.SourceAMI}}"}},
			"snapshot_tags": o{"a": "snapshot"}, "snapshot_tag": []o{{"key": "name", "value": "{{.SourceAMIName}}"}},
			"root_volume_tags": o{"v": "{{.BuildRegion}}"}, "root_volume_tag": []o{{"key": "w", "value": "x"}},
		}, func(t *testing.T, r *release) {
			same(t, "tags of the image", tagsOf(r.image.Tags), map[string]string{"a": "image", "region": region, "from": sourceID})
			same(t, "tags of the snapshot", tagsOf(r.root.Tags), map[string]string{"a": "snapshot", "region": region, "from": sourceID, "name": "busybox"})
			volume := tagsOf(r.volume.Tags)
			if volume["v"] != region || volume["w"] != "x" || volume["a"] != "" {
				t.Errorf("tags of the volume: %v", volume)
			}
		}},
		{"description", o{"ami_description": "{{.SourceAMIName}} of {{.BuildRegion}}"}, func(t *testing.T, r *release) {
			same(t, "description", aws.ToString(r.image.Description), "busybox of "+region)
		}},
		{"networking", o{"ena_support": true, "sriov_support": true}, func(t *testing.T, r *release) {
			same(t, "enaSupport", aws.ToBool(r.image.EnaSupport), true)
			same(t, "sriovNetSupport", aws.ToString(r.image.SriovNetSupport), "simple")
		}},
		{"networking turned off", o{"ena_support": false}, func(t *testing.T, r *release) {
			same(t, "enaSupport", aws.ToBool(r.image.EnaSupport), false)
		}},
		{"firmware", o{"boot_mode": "uefi", "uefi_data": "QU1aTlVFRkk=", "tpm_support": "v2.0", "imds_support": "v2.0"}, func(t *testing.T, r *release) {
			same(t, "bootMode", r.image.BootMode, types.BootModeValuesUefi)
			same(t, "tpmSupport", r.image.TpmSupport, types.TpmSupportValuesV20)
			same(t, "imdsSupport", r.image.ImdsSupport, types.ImdsSupportValuesV20)
			same(t, "uefiData", r.attribute("uefiData").UefiData, &types.AttributeValue{Value: aws.String("QU1aTlVFRkk=")})
		}},
		{"architecture", o{"ami_architecture": "x86_64", "ami_virtualization_type": "hvm"}, func(t *testing.T, r *release) {
			same(t, "architecture", r.image.Architecture, types.ArchitectureValuesX8664)
			same(t, "virtualization", r.image.VirtualizationType, types.VirtualizationTypeHvm)
		}},
		{"source_ami_filter", o{"source_ami": nil, "source_ami_filter": o{"owners": []string{"self"}, "filters": o{"name": "busy*"}, "most_recent": true}, "tags": o{"from": "{{.SourceAMI}}"}},
			func(t *testing.T, r *release) {
				same(t, "tags", tagsOf(r.image.Tags), map[string]string{"from": sourceID})
			}},
		{"performance", o{"root_volume_type": "gp3", "root_volume_size": 10, "root_volume_iops": 4000, "root_volume_throughput": 500}, func(t *testing.T, r *release) {
			for what, got := range map[string][4]any{
				"the volume": {r.volume.VolumeType, aws.ToInt32(r.volume.Size), aws.ToInt32(r.volume.Iops), aws.ToInt32(r.volume.Throughput)},
				"the image":  {r.device().VolumeType, aws.ToInt32(r.device().VolumeSize), aws.ToInt32(r.device().Iops), aws.ToInt32(r.device().Throughput)},
			} {
				same(t, what, got, [4]any{types.VolumeTypeGp3, int32(10), int32(4000), int32(500)})
			}
		}},
		{"mappings", o{"ami_block_device_mappings": []o{
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
			o{"device_name": "/dev/sdc", "no_device": true},
			o{"device_name": "/dev/sdd", "snapshot_id": "SNAPSHOT"},
			o{"device_name": "/dev/sde", "volume_size": 5, "encrypted": true},
			o{"device_name": "/dev/xvda", "encrypted": true, "kms_key_id": "alias/images"},
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
				"/dev/sdd": "1 GiB of " + r.b.sourceSnapshot() + " encrypted false",
				"/dev/sde": "5 GiB of  encrypted true",
			})
			same(t, "the root is encrypted", aws.ToBool(r.root.Encrypted), true)
			if key := aws.ToString(r.volume.KmsKeyId); key == "" || key != aws.ToString(r.root.KmsKeyId) {
				t.Errorf("the volume's key is %q, the snapshot's %q", key, aws.ToString(r.root.KmsKeyId))
			}
		}},
		{"root_device_name", o{"root_device_name": "/dev/xvda"}, func(t *testing.T, r *release) {
			same(t, "root", aws.ToString(r.image.RootDeviceName), "/dev/xvda")
		}},
		{"encryption of the volume", o{"root_volume_encrypt_boot": true, "root_volume_kms_key_id": "alias/images"}, func(t *testing.T, r *release) {
			same(t, "the volume is encrypted", aws.ToBool(r.volume.Encrypted), true)
			same(t, "the snapshot is encrypted", aws.ToBool(r.root.Encrypted), true)
			same(t, "the snapshot's key", aws.ToString(r.root.KmsKeyId), aws.ToString(r.volume.KmsKeyId))
		}},
		{"encryption of the image", o{"encrypt_boot": true, "kms_key_id": "alias/images"}, func(t *testing.T, r *release) {
			same(t, "the snapshot is encrypted", aws.ToBool(r.root.Encrypted), true)
		}},
		{"sharing", o{"ami_users": []string{other}, "snapshot_users": []string{other, account}, "ami_product_codes": []string{"abc"}}, func(t *testing.T, r *release) {
			same(t, "who may launch", r.attribute("launchPermission").LaunchPermissions, []types.LaunchPermission{{UserId: aws.String(other)}})
			same(t, "who may make volumes", r.volumePermissions(), []string{account, other})
			same(t, "product codes", len(r.image.ProductCodes), 1)
		}},
		{"sharing with all", o{"ami_groups": []string{"all"}, "snapshot_groups": []string{"all"}}, func(t *testing.T, r *release) {
			same(t, "public", aws.ToBool(r.image.Public), true)
			same(t, "who may make volumes", r.volumePermissions(), []string{"all"})
		}},
		{"sharing with organizations", o{"ami_org_arns": []string{org}, "ami_ou_arns": []string{unit}}, func(t *testing.T, r *release) {
			var arns []string
			for _, p := range r.attribute("launchPermission").LaunchPermissions {
				arns = append(arns, aws.ToString(p.OrganizationArn)+aws.ToString(p.OrganizationalUnitArn))
			}
			same(t, "who may launch", sorted(arns), sorted([]string{org, unit}))
		}},
		{"life", o{"deprecate_at": yearAway.Format(time.RFC3339), "deregistration_protection": o{"enabled": true, "with_cooldown": true}}, func(t *testing.T, r *release) {
			at, err := time.Parse(time.RFC3339, aws.ToString(r.image.DeprecationTime))
			same(t, "deprecation", at.Equal(yearAway) && err == nil, true)
			if got := aws.ToString(r.image.DeregistrationProtection); !strings.HasPrefix(got, "enabled") || !strings.Contains(got, "cooldown") {
				t.Errorf("protection is %q", got)
			}
		}},
		{"copies", o{"ami_regions": []string{elsewhere}, "tags": o{"a": "b"}, "ami_users": []string{other}, "snapshot_copy_duration_minutes": 15}, func(t *testing.T, r *release) {
			copied := r.elsewhere()
			same(t, "name", aws.ToString(copied.Name), aws.ToString(r.image.Name))
			same(t, "tags", tagsOf(copied.Tags), map[string]string{"a": "b"})
			if want := elsewhere + ": " + aws.ToString(copied.ImageId); !strings.Contains(r.out, want) {
				t.Errorf("the artifact does not name %s:\n%s", want, r.out)
			}
		}},
		{"copies encrypted", o{"ami_regions": []string{elsewhere}, "encrypt_boot": true, "kms_key_id": "alias/here", "region_kms_key_ids": o{elsewhere: "alias/there"}}, func(t *testing.T, r *release) {
			copied := r.elsewhere()
			there := r.snapshot(elsewhere, copied.BlockDeviceMappings)
			same(t, "encrypted", aws.ToBool(there.Encrypted) && aws.ToBool(r.root.Encrypted), true)
			if aws.ToString(there.KmsKeyId) == aws.ToString(r.root.KmsKeyId) {
				t.Errorf("both are encrypted with %s", aws.ToString(there.KmsKeyId))
			}
		}},
	}
}

// TestAmazonOptions builds an image for each row, and reads back what the options
// have done to it. One cloud serves them all.
func TestAmazonOptions(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	b.plenty()
	for i, e := range effects() {
		t.Run(e.name, func(t *testing.T) {
			e.check(t, b.release(t, fmt.Sprintf("effect %d", i), e.give))
		})
	}
}

// plenty makes an image with devices beside its root, /dev/sdb and /dev/sdc.
func (b *box) plenty() {
	b.t.Helper()
	blank := func(name string) types.BlockDeviceMapping {
		return types.BlockDeviceMapping{DeviceName: aws.String(name), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(2)}}
	}
	_, err := b.client().RegisterImage(context.Background(), &ec2.RegisterImageInput{
		Name: aws.String("plenty"), RootDeviceName: aws.String("/dev/xvda"), VirtualizationType: aws.String("hvm"),
		Architecture: types.ArchitectureValuesX8664, BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(b.sourceSnapshot())}},
			blank("/dev/sdb"), blank("/dev/sdc"),
		},
	})
	b.must(err)
}

// plentiful are the options of a build of that image with block device mappings.
func plentiful(devices ...o) o {
	return o{
		"source_ami": nil, "source_ami_filter": o{"owners": []string{"self"}, "filters": o{"name": "plenty"}},
		"ami_block_device_mappings": devices,
	}
}

// release builds an image, and looks at its volume while that is there.
func (b *box) release(t *testing.T, name string, give o) *release {
	t.Helper()
	r := &release{b: b}
	ready, on := filepath.Join(b.dir, name+" ready"), filepath.Join(b.dir, name+" on")
	options := o{"type": "amazon-chroot", "source_ami": sourceID, "ami_name": name}
	for k, v := range give {
		if options[k] = v; v == nil {
			delete(options, k)
		}
	}
	for _, device := range asDevices(options["ami_block_device_mappings"]) {
		if device["snapshot_id"] == "SNAPSHOT" {
			device["snapshot_id"] = b.sourceSnapshot()
		}
	}
	template := b.template(options, o{"type": "shell-local", "inline": []string{
		"touch '" + ready + "'", "while [ ! -e '" + on + "' ]; do sleep 0.02; done",
	}})
	built := make(chan error, 1)
	go func() {
		out, err := b.packer("build", "-color=false", template)
		r.out = out
		built <- err
	}()
	for !exists(ready) {
		select {
		case err := <-built:
			t.Fatalf("packer build ended before it provisioned: %v\n%s\n%s", err, r.out, b.log)
		case <-time.After(20 * time.Millisecond):
		}
	}
	r.volume = b.volumeBuiltOn(name)
	b.must(os.WriteFile(on, nil, 0o600))
	if err := <-built; err != nil {
		t.Fatalf("packer build: %v\n%s\n%s", err, r.out, b.log)
	}
	r.image = b.named(region, name)
	r.root = r.snapshot(region, r.image.BlockDeviceMappings)
	return r
}

// volumeBuiltOn is the volume of the build that is under way.
func (b *box) volumeBuiltOn(name string) types.Volume {
	b.t.Helper()
	out, err := b.client().DescribeVolumes(context.Background(), &ec2.DescribeVolumesInput{
		Filters: []types.Filter{{Name: aws.String("tag-key"), Values: []string{"packer-chroot-build"}}},
	})
	b.must(err)
	if len(out.Volumes) != 1 {
		b.t.Fatalf("%q is built on %d volumes", name, len(out.Volumes))
	}
	return out.Volumes[0]
}

// at is the EC2 client of a region.
func (b *box) at(region string) *ec2.Client {
	o := b.client().Options()
	o.Region = region
	return ec2.New(o)
}

// named is the one image of a name in a region.
func (b *box) named(region, name string) types.Image {
	b.t.Helper()
	out, err := b.at(region).DescribeImages(context.Background(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, IncludeDeprecated: aws.Bool(true),
		Filters: []types.Filter{{Name: aws.String("name"), Values: []string{name}}},
	})
	b.must(err)
	if len(out.Images) != 1 {
		b.t.Fatalf("%d images of %s are named %q", len(out.Images), region, name)
	}
	return out.Images[0]
}

// elsewhere is the copy in the other region.
func (r *release) elsewhere() types.Image {
	r.b.t.Helper()
	return r.b.named(elsewhere, aws.ToString(r.image.Name))
}

// device is the image's root device.
func (r *release) device() *types.EbsBlockDevice {
	for _, m := range r.image.BlockDeviceMappings {
		if aws.ToString(m.DeviceName) == aws.ToString(r.image.RootDeviceName) {
			return m.Ebs
		}
	}
	r.b.t.Fatalf("image %s has no root device", aws.ToString(r.image.ImageId))
	return nil
}

// snapshot is the first of an image's block devices.
func (r *release) snapshot(region string, mappings []types.BlockDeviceMapping) types.Snapshot {
	r.b.t.Helper()
	out, err := r.b.at(region).DescribeSnapshots(context.Background(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{aws.ToString(mappings[0].Ebs.SnapshotId)}})
	r.b.must(err)
	return out.Snapshots[0]
}

// attribute reads one attribute of the image.
func (r *release) attribute(name string) *ec2.DescribeImageAttributeOutput {
	r.b.t.Helper()
	out, err := r.b.client().DescribeImageAttribute(context.Background(), &ec2.DescribeImageAttributeInput{
		ImageId: r.image.ImageId, Attribute: types.ImageAttributeName(name),
	})
	r.b.must(err)
	return out
}

// volumePermissions are the accounts and groups that may make volumes of the root's
// snapshot.
func (r *release) volumePermissions() []string {
	r.b.t.Helper()
	out, err := r.b.client().DescribeSnapshotAttribute(context.Background(), &ec2.DescribeSnapshotAttributeInput{
		SnapshotId: r.root.SnapshotId, Attribute: types.SnapshotAttributeNameCreateVolumePermission,
	})
	r.b.must(err)
	var all []string
	for _, p := range out.CreateVolumePermissions {
		all = append(all, aws.ToString(p.UserId)+string(p.Group))
	}
	return sorted(all)
}

// asDevices are block device mappings of options, if there are any.
func asDevices(mappings any) []o {
	devices, _ := mappings.([]o)
	return devices
}

func tagsOf(tags []types.Tag) map[string]string {
	all := map[string]string{}
	for _, tag := range tags {
		all[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
	}
	return all
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
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	before := b.inventory()
	out := b.build(b.template(o{
		"type": "amazon-chroot", "source_ami": sourceID, "ami_name": "only elsewhere",
		"ami_regions": []string{elsewhere}, "skip_save_build_region": true, "skip_region_validation": true,
	}, shell("true")))
	b.unchanged(before)
	if want := elsewhere + ": " + aws.ToString(b.named(elsewhere, "only elsewhere").ImageId); !strings.Contains(out, want) {
		t.Errorf("the artifact does not name %s:\n%s", want, out)
	}
}

// TestAmazonUnknownRegion: a region that EC2 does not know is refused before anything
// is made. With skip_region_validation EC2 is not asked which there are, and the
// region itself is the one that does not answer.
func TestAmazonUnknownRegion(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	before := b.inventory()
	options := o{"type": "amazon-chroot", "source_ami": sourceID, "ami_name": "to Mars", "ami_regions": []string{"mars-north-1"}}
	b.calls()
	b.fails(b.template(options, shell("true")), `ami_regions has "mars-north-1", which is no region that EC2 knows`)
	calls := b.calls()
	same(t, "regions were asked for", made(calls, "ec2", "DescribeRegions"), true)
	same(t, "a volume was made", made(calls, "ec2", "CreateVolume"), false)

	options["skip_region_validation"] = true
	out := b.fails(b.template(options, shell("true")), "mars-north-1")
	same(t, "regions were asked for", made(b.calls(), "ec2", "DescribeRegions"), false)
	if strings.Contains(out, "no region that EC2 knows") {
		t.Errorf("refused all the same:\n%s", out)
	}
	b.unchanged(before)
}

// TestAmazonPolling: a snapshot that never completes is looked at as often as
// aws_polling says, by an option or by the environment, and no more.
func TestAmazonPolling(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	before := b.inventory()
	looks := func(options o, env ...string) (n int) {
		t.Helper()
		all := o{"type": "amazon-chroot", "source_ami": sourceID, "ami_name": "never"}
		maps.Copy(all, options)
		whole := b.env
		b.env = append(slices.Clone(whole), env...)
		b.control(http.MethodPost, "faults", o{"action": "CreateSnapshot", "outcome": "never"}, nil)
		b.calls()
		b.fails(b.template(all, shell("true")), "snapshot", "pending")
		b.control(http.MethodDelete, "faults", nil, nil)
		b.env = whole
		after := false
		for _, c := range b.calls() {
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
		same(t, "looks by the options", looks(o{"aws_polling": o{"delay_seconds": 1, "max_attempts": want}}), want)
		same(t, "looks by the environment", looks(nil, "AWS_POLL_DELAY_SECONDS=1", fmt.Sprintf("AWS_MAX_ATTEMPTS=%d", want)), want)
	}
	b.unchanged(before)
}

// TestAmazonReplaces: the second image of a name takes the place of the first,
// whose snapshot goes only if that is asked for.
func TestAmazonReplaces(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	build := func(more o, args ...string) types.Image {
		t.Helper()
		options := o{"type": "amazon-chroot", "source_ami": sourceID, "ami_name": "the one"}
		for k, v := range more {
			options[k] = v
		}
		b.build(b.template(options, shell("true")), args...)
		return b.named(region, "the one")
	}
	kept := func(image types.Image) bool {
		id := "snapshot " + aws.ToString(image.BlockDeviceMappings[0].Ebs.SnapshotId)
		return slices.ContainsFunc(b.inventory(), func(line string) bool { return strings.HasPrefix(line, id+" ") })
	}
	first := build(nil)
	second := build(o{"force_deregister": true})
	third := build(o{"force_deregister": true, "force_delete_snapshot": true})
	fourth := build(nil, "-force")
	if !kept(first) || kept(second) || !kept(third) || !kept(fourth) {
		t.Errorf("snapshots kept: %t %t %t %t", kept(first), kept(second), kept(third), kept(fourth))
	}
	if id := aws.ToString(fourth.ImageId); id == aws.ToString(third.ImageId) {
		t.Errorf("%s was not replaced", id)
	}
	b.fails(b.template(o{"type": "amazon-chroot", "source_ami": sourceID, "ami_name": "the one"}, shell("true")), "the one", aws.ToString(fourth.ImageId))
}

// TestAmazonEndpointsOfAWS: a proxy is told whom the builder means to reach, and
// lets it reach nobody.
func TestAmazonEndpointsOfAWS(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for want, give := range map[string]o{
		"ec2." + region + ".amazonaws.com:443":      {},
		"ec2-fips." + region + ".amazonaws.com:443": {"use_fips_endpoint": true},
		"ec2." + region + ".api.aws:443":            {"use_dualstack_endpoint": true},
	} {
		b := newBox(t)
		asked := make(chan string, 100)
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Host
			w.WriteHeader(http.StatusForbidden)
		}))
		defer proxy.Close()
		b.env = append(b.env, "AWS_ENDPOINT_URL=", "HTTPS_PROXY="+proxy.URL)
		options := o{"type": "amazon-chroot", "source_ami": sourceID, "ami_name": "never made", "max_retries": 1}
		for k, v := range give {
			options[k] = v
		}
		b.fails(b.template(options, shell("true")), "amazon-chroot")
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
