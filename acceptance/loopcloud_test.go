package acceptance

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/outscale/osc-sdk-go/v3/pkg/middleware"
	"github.com/outscale/osc-sdk-go/v3/pkg/options"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"
	"github.com/outscale/osc-sdk-go/v3/pkg/profile"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// volume creates a volume and waits until it is available.
func (b *box) volume(gib int32, snapshot string) string {
	b.t.Helper()
	c := b.client()
	in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), Size: aws.Int32(gib)}
	if snapshot != "" {
		in.SnapshotId = aws.String(snapshot)
	}
	out, err := c.CreateVolume(context.Background(), in)
	b.must(err)
	b.must(ec2.NewVolumeAvailableWaiter(c, quickly).Wait(context.Background(), &ec2.DescribeVolumesInput{VolumeIds: []string{*out.VolumeId}}, deadline))
	return *out.VolumeId
}

func quickly(o *ec2.VolumeAvailableWaiterOptions) {
	o.MinDelay, o.MaxDelay = 20*time.Millisecond, 100*time.Millisecond
}

// attach attaches a volume under the first free name and answers its node.
func (b *box) attach(volume string) string {
	b.t.Helper()
	instances, err := b.client().DescribeInstances(context.Background(), &ec2.DescribeInstancesInput{})
	b.must(err)
	host := instances.Reservations[0].Instances[0].InstanceId
	for letter := 'p'; letter >= 'f'; letter-- {
		_, err := b.client().AttachVolume(context.Background(), &ec2.AttachVolumeInput{
			VolumeId: aws.String(volume), InstanceId: host, Device: aws.String("/dev/sd" + string(letter)),
		})
		if err == nil {
			node := "/dev/xvd" + string(letter)
			if _, err := os.Stat(node); err != nil {
				b.t.Fatalf("attached, and there is no node: %v", err)
			}
			return node
		}
		if !strings.Contains(err.Error(), "already in use") {
			b.t.Fatal(err)
		}
	}
	b.t.Fatal("no free device name")
	return ""
}

func (b *box) detach(volume string) {
	b.t.Helper()
	c := b.client()
	_, err := c.DetachVolume(context.Background(), &ec2.DetachVolumeInput{VolumeId: aws.String(volume)})
	b.must(err)
	b.must(ec2.NewVolumeAvailableWaiter(c, quickly).Wait(context.Background(), &ec2.DescribeVolumesInput{VolumeIds: []string{volume}}, deadline))
}

func (b *box) sh(script string) string {
	b.t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < deadline; time.Sleep(25 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Errorf("waited in vain until %s", what)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestVolumesLife partitions a blank volume twice, by parted which tells the
// kernel and by sfdisk which cannot everywhere, writes to it, snapshots it, and
// finds all of it on another volume.
func TestVolumesLife(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	volume := b.volume(8, "")
	node := b.attach(volume)
	b.sh("parted -s " + node + " mklabel msdos mkpart primary 1M 2G mkpart primary 2G 100%")
	waitFor(t, "both partitions have nodes", func() bool { return exists(node+"1") && exists(node+"2") })
	b.sh("printf 'label: gpt\\nsize=6G\\n' | sfdisk -q --no-reread --wipe always " + node)
	waitFor(t, "the second partition is gone", func() bool { return exists(node+"1") && !exists(node+"2") })

	mount := filepath.Join(b.dir, "mnt")
	b.sh("mkfs.ext4 -q " + node + "1; mkdir " + mount + "; mount " + node + "1 " + mount + "; head -c 200M /dev/urandom > " + mount + "/big; sync; md5sum < " + mount + "/big > " + b.dir + "/sum; umount " + mount)
	snap, err := b.client().CreateSnapshot(context.Background(), &ec2.CreateSnapshotInput{VolumeId: aws.String(volume)})
	b.must(err)
	if cost := diskUse(t, b.cloud, *snap.SnapshotId); cost > 300<<20 {
		t.Errorf("a snapshot of 8 GiB holding 200 MB costs %d MiB", cost>>20)
	}
	b.detach(volume)
	if exists(node) || exists(node+"1") {
		t.Error("detached, and the nodes are still there")
	}

	second := b.volume(9, *snap.SnapshotId)
	node = b.attach(second)
	waitFor(t, "the partition of the copy has a node", func() bool { return exists(node + "1") })
	b.sh("mount -o ro " + node + "1 " + mount + "; md5sum < " + mount + "/big | cmp - " + b.dir + "/sum; umount " + mount)
	b.detach(second)
}

// diskUse is what the snapshot's file takes on the disk, in bytes.
func diskUse(t testing.TB, dir, id string) int64 {
	t.Helper()
	var used int64
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.Contains(path, id) && !d.IsDir() {
			info, err := d.Info()
			if err == nil {
				used += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	if used == 0 {
		t.Errorf("no file of %s in %s", id, dir)
	}
	return used
}

// TestDetachWhileMounted: the attachment ends when the file system is unmounted.
func TestDetachWhileMounted(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	volume := b.volume(1, "")
	node := b.attach(volume)
	mount := filepath.Join(b.dir, "mnt")
	b.sh("mkfs.ext4 -q " + node + "; mkdir " + mount + "; mount " + node + " " + mount)
	_, err := b.client().DetachVolume(context.Background(), &ec2.DetachVolumeInput{VolumeId: aws.String(volume)})
	b.must(err)
	if state := b.state(volume); state != types.VolumeStateInUse {
		t.Errorf("mounted, and the volume is %s", state)
	}
	b.sh("touch " + mount + "/still; umount " + mount)
	waitFor(t, "the volume is available", func() bool { return b.state(volume) == types.VolumeStateAvailable })
	if exists(node) {
		t.Error("detached, and the node is still there")
	}
}

func (b *box) state(volume string) types.VolumeState {
	b.t.Helper()
	out, err := b.client().DescribeVolumes(context.Background(), &ec2.DescribeVolumesInput{VolumeIds: []string{volume}})
	b.must(err)
	return out.Volumes[0].State
}

// TestKilledLoopcloud: the next start releases what the killed one left, and
// knows what it knew.
func TestKilledLoopcloud(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	volume := b.volume(1, "")
	node := b.attach(volume)
	b.sh("parted -s " + node + " mklabel gpt mkpart root 1M 100%")
	before := b.inventory()
	b.must(b.cmd.Process.Kill())
	_ = b.cmd.Wait()
	b.log.Reset()
	if len(loopsOf(b.cloud)) != 1 {
		t.Fatal("a killed loopcloud leaves its device: the test does not see it")
	}
	b.serve()
	if loops := loopsOf(b.cloud); len(loops) != 0 || exists(node) || exists(node+"1") {
		t.Errorf("left after the next start: %v, %s: %t", loops, node, exists(node))
	}
	if state := b.state(volume); state != types.VolumeStateAvailable {
		t.Errorf("the volume is %s", state)
	}
	for i := range before {
		before[i] = strings.Replace(before[i], volume+" in-use", volume+" available", 1)
	}
	b.unchanged(before)
}

func TestRunGivesTheExitStatus(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := testdir.New(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 128 + 15} {
		err := exec.Command(programs.loopcloud, "run", "--dir", dir, "--", "sh", "-c", script).Run()
		got := 0
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			got = exit.ExitCode()
		} else if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%q: status %d, want %d", script, got, want)
		}
	}
	out, err := exec.Command(programs.loopcloud, "run", "--dir", dir, "--", "sh", "-c", "curl -sf $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/meta-data/instance-id").Output()
	if err != nil || !strings.HasPrefix(string(out), "i-") {
		t.Errorf("the metadata service says %q (%v)", out, err)
	}
}

func TestImportTarAndRaw(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t)
	archive := filepath.Join(b.dir, "root.tar.gz")
	b.sh("echo packed > " + b.write("packed/etc/name", "") + "; chown 12:34 " + b.dir + "/packed/etc/name; chmod 4751 " + b.dir + "/packed/etc/name; tar -C " + b.dir + "/packed -czf " + archive + " .")
	fromTar := b.loopcloud("image", "import", "--endpoint", b.endpoint, "--name", "tar", "--size", "2", archive)
	disk := b.disk(fromTar)
	if got := b.content(disk, "/etc/name"); got != "packed\n" {
		t.Errorf("the image of a tar holds %q", got)
	}
	stat := b.debugfs(disk, 1<<20, "stat /etc/name")
	for _, want := range []string{"Mode:  04751", "User:    12", "Group:    34"} {
		if !strings.Contains(stat, want) {
			t.Errorf("not %s:\n%s", want, stat)
		}
	}
	if size := fileSize(t, disk); size != 2<<30 {
		t.Errorf("the disk has %d bytes, not 2 GiB", size)
	}
	fromRaw := b.loopcloud("image", "import", "--endpoint", b.endpoint, "--name", "raw", disk)
	b.sh("cmp " + disk + " " + b.disk(fromRaw))
}

func TestUsageErrors(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{}, "serve"},
		{[]string{"serve"}, "--dir"},
		{[]string{"serve", "--dir", testdir.New(t), "--profile", "slow"}, "slow"},
		{[]string{"serve", "--dir", testdir.New(t), "--naming", "ide"}, "ide"},
		{[]string{"run", "--dir", testdir.New(t)}, "COMMAND"},
		{[]string{"image", "import", "--dir", testdir.New(t), "/does/not/exist"}, "--name"},
		{[]string{"image", "import", "--dir", testdir.New(t), "--name", "xyz", "/does/not/exist"}, "/does/not/exist"},
		{[]string{"image", "export", "--dir", testdir.New(t), "ami-00000bad", "/dev/null"}, "no cloud in"},
		{[]string{"fly"}, "fly"},
	} {
		out, err := exec.Command(programs.loopcloud, c.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("loopcloud %v: %v, should have said %q:\n%s", c.args, err, c.says, out)
		}
	}
}

// outscale is the SDK of the Outscale API, made to make every call once.
func (b *box) outscale() *osc.Client {
	b.t.Helper()
	c, err := osc.NewClient(&profile.Profile{
		AccessKey: keyID, SecretKey: secret, Region: region, Endpoints: profile.Endpoint{API: b.endpoint + "/api/v1"},
	}, middleware.WithBaseTransport(&http.Transport{}), options.WithoutRetry(), options.WithoutRatelimit(), options.WithoutLogging())
	b.must(err)
	return c
}

// TestOneStateBeneathBoth writes to a volume of Outscale's, makes an image of it,
// and finds the bytes on a volume that EC2 makes of that image; and an image of
// EC2's is Outscale's to copy and to delete.
func TestOneStateBeneathBoth(t *testing.T) {
	needRoot(t)
	t.Parallel()
	b := newBox(t, "--naming", "scsi")
	ctx, c := t.Context(), b.outscale()
	image := b.outscaleImage(c, "both")

	seen, err := b.client().DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{image}})
	b.must(err)
	snapshot := *seen.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
	if got := b.sh("head -c 5 " + b.onEC2(snapshot)); got != "bytes" {
		t.Errorf("EC2's view of the image begins with %q", got)
	}
	registered, err := b.client().RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: aws.String("EC2's"), RootDeviceName: aws.String("/dev/sda1"), VirtualizationType: aws.String("hvm"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot},
		}},
	})
	b.must(err)
	name, from := "a copy", region
	copied, err := c.CreateImage(ctx, osc.CreateImageRequest{ImageName: &name, SourceImageId: registered.ImageId, SourceRegionName: &from})
	b.must(err)
	for _, id := range []string{*registered.ImageId, copied.Image.ImageId, image} {
		_, err := c.DeleteImage(ctx, osc.DeleteImageRequest{ImageId: id})
		b.must(err)
	}
	left, err := b.client().DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	b.must(err)
	if len(left.Images) != 1 || *left.Images[0].ImageId != sourceID {
		t.Errorf("left are %+v", left.Images)
	}
}

// outscaleImage makes an image through the Outscale API: volume, device, snapshot.
func (b *box) outscaleImage(c *osc.Client, name string) string {
	b.t.Helper()
	ctx, root := b.t.Context(), "/dev/sda1"
	vms, err := c.ReadVms(ctx, osc.ReadVmsRequest{})
	b.must(err)
	gib := 1
	made, err := c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: region + "a", Size: &gib})
	b.must(err)
	volume := made.Volume.VolumeId
	b.onDevice(c, volume, (*vms.Vms)[0].VmId, "printf bytes | dd conv=fsync status=none of=")
	cut, err := c.CreateSnapshot(ctx, osc.CreateSnapshotRequest{VolumeId: &volume})
	b.must(err)
	_, err = c.DeleteVolume(ctx, osc.DeleteVolumeRequest{VolumeId: volume})
	b.must(err)
	image, err := c.CreateImage(ctx, osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root,
		BlockDeviceMappings: &[]osc.BlockDeviceMappingImage{{
			DeviceName: &root, Bsu: &osc.BsuToCreate{SnapshotId: &cut.Snapshot.SnapshotId},
		}},
	})
	b.must(err)
	return image.Image.ImageId
}

// onDevice links a volume, runs a script that ends in its device's name, and
// unlinks it. The link with the letter that was asked for leads to the device.
func (b *box) onDevice(c *osc.Client, volume, vm, script string) {
	b.t.Helper()
	_, err := c.LinkVolume(b.t.Context(), osc.LinkVolumeRequest{VolumeId: volume, VmId: vm, DeviceName: "/dev/xvdqz"})
	b.must(err)
	b.sh(script + "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdqz")
	_, err = c.UnlinkVolume(b.t.Context(), osc.UnlinkVolumeRequest{VolumeId: volume})
	b.must(err)
	waitFor(b.t, "the volume is unlinked", func() bool { return b.state(volume) == types.VolumeStateAvailable })
}

// onEC2 is a node of a new volume of a snapshot.
func (b *box) onEC2(snapshot string) string {
	b.t.Helper()
	volume := b.volume(1, snapshot)
	instances, err := b.client().DescribeInstances(b.t.Context(), &ec2.DescribeInstancesInput{})
	b.must(err)
	_, err = b.client().AttachVolume(b.t.Context(), &ec2.AttachVolumeInput{
		VolumeId: &volume, InstanceId: instances.Reservations[0].Instances[0].InstanceId, Device: aws.String("/dev/xvdqz"),
	})
	b.must(err)
	b.t.Cleanup(func() { b.detach(volume) })
	return "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdqz"
}
