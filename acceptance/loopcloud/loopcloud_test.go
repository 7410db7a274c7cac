package loopcloud

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/outscale/osc-sdk-go/v3/pkg/osc"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestVolumeLifeCycle partitions a blank volume with parted, which informs the kernel, and with sfdisk, which cannot do
// so everywhere. It writes to the volume, takes a snapshot, and finds all data on a second volume.
func TestVolumeLifeCycle(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	volume := b.CreateVolume(8, "")
	node := b.Attach(volume)
	b.Sh("parted -s " + node + " mklabel msdos mkpart primary 1M 2G mkpart primary 2G 100%")
	harness.WaitFor(t, "both partitions have nodes", func() bool { return harness.Exists(node+"1") && harness.Exists(node+"2") })
	b.Sh("printf 'label: gpt\\nsize=6G\\n' | sfdisk -q --no-reread --wipe always " + node)
	harness.WaitFor(t, "the second partition is gone", func() bool { return harness.Exists(node+"1") && !harness.Exists(node+"2") })

	mount := filepath.Join(b.Dir, "mnt")
	b.Sh("mkfs.ext4 -q " + node + "1; mkdir " + mount + "; mount " + node + "1 " + mount + "; head -c 200M /dev/urandom > " + mount + "/big; sync; md5sum < " + mount + "/big > " + b.Dir + "/sum; umount " + mount)
	snap, err := b.Client().CreateSnapshot(context.Background(), &ec2.CreateSnapshotInput{VolumeId: aws.String(volume)})
	b.Must(err)
	if cost := diskUse(t, b.Store, *snap.SnapshotId); cost > 300<<20 {
		t.Errorf("a snapshot of 8 GiB holding 200 MB costs %d MiB", cost>>20)
	}
	b.Detach(volume)
	if harness.Exists(node) || harness.Exists(node+"1") {
		t.Error("detached, and the nodes are still there")
	}

	second := b.CreateVolume(9, *snap.SnapshotId)
	node = b.Attach(second)
	harness.WaitFor(t, "the partition of the copy has a node", func() bool { return harness.Exists(node + "1") })
	b.Sh("mount -o ro " + node + "1 " + mount + "; md5sum < " + mount + "/big | cmp - " + b.Dir + "/sum; umount " + mount)
	b.Detach(second)
}

// diskUse returns the disk space that a snapshot's file takes, in bytes.
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

// TestDetachWhileMounted checks that the attachment ends when the file system is unmounted.
func TestDetachWhileMounted(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	volume := b.CreateVolume(1, "")
	node := b.Attach(volume)
	mount := filepath.Join(b.Dir, "mnt")
	b.Sh("mkfs.ext4 -q " + node + "; mkdir " + mount + "; mount " + node + " " + mount)
	_, err := b.Client().DetachVolume(context.Background(), &ec2.DetachVolumeInput{VolumeId: aws.String(volume)})
	b.Must(err)
	if state := b.VolumeState(volume); state != types.VolumeStateInUse {
		t.Errorf("mounted, and the volume is %s", state)
	}
	b.Sh("touch " + mount + "/still; umount " + mount)
	harness.WaitFor(t, "the volume is available", func() bool { return b.VolumeState(volume) == types.VolumeStateAvailable })
	if harness.Exists(node) {
		t.Error("detached, and the node is still there")
	}
}

// TestKilledLoopcloud checks that the next start releases the devices of a killed loopcloud and keeps its state.
func TestKilledLoopcloud(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	volume := b.CreateVolume(1, "")
	node := b.Attach(volume)
	b.Sh("parted -s " + node + " mklabel gpt mkpart root 1M 100%")
	before := b.Inventory()
	b.Must(b.Cmd.Process.Kill())
	_ = b.Cmd.Wait()
	b.Output.Reset()
	if len(harness.LoopsOf(b.Store)) != 1 {
		t.Fatal("a killed loopcloud leaves its device: the test does not see it")
	}
	b.Serve()
	if loops := harness.LoopsOf(b.Store); len(loops) != 0 || harness.Exists(node) || harness.Exists(node+"1") {
		t.Errorf("left after the next start: %v, %s: %t", loops, node, harness.Exists(node))
	}
	if state := b.VolumeState(volume); state != types.VolumeStateAvailable {
		t.Errorf("the volume is %s", state)
	}
	for i := range before {
		before[i] = strings.Replace(before[i], volume+" in-use", volume+" available", 1)
	}
	b.Unchanged(before)
}

func TestRunGivesTheExitStatus(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	dir := testdir.New(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -TERM $$": 128 + 15} {
		err := exec.Command(harness.Programs.Loopcloud, "run", "--dir", dir, "--", "sh", "-c", script).Run()
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
	out, err := exec.Command(harness.Programs.Loopcloud, "run", "--dir", dir, "--", "sh", "-c", "curl -sf $AWS_EC2_METADATA_SERVICE_ENDPOINT/latest/meta-data/instance-id").Output()
	if err != nil || !strings.HasPrefix(string(out), "i-") {
		t.Errorf("the metadata service says %q (%v)", out, err)
	}
}

func TestImportTarAndRaw(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	archive := filepath.Join(b.Dir, "root.tar.gz")
	b.Sh("echo packed > " + b.Write("packed/etc/name", "") + "; chown 12:34 " + b.Dir + "/packed/etc/name; chmod 4751 " + b.Dir + "/packed/etc/name; tar -C " + b.Dir + "/packed -czf " + archive + " .")
	fromTar := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "tar", "--size", "2", archive)
	disk := b.Disk(fromTar)
	if got := b.Content(disk, "/etc/name"); got != "packed\n" {
		t.Errorf("the image of a tar holds %q", got)
	}
	stat := b.Debugfs(disk, 1<<20, "stat /etc/name")
	for _, want := range []string{"Mode:  04751", "User:    12", "Group:    34"} {
		if !strings.Contains(stat, want) {
			t.Errorf("not %s:\n%s", want, stat)
		}
	}
	if size := harness.FileSize(t, disk); size != 2<<30 {
		t.Errorf("the disk has %d bytes, not 2 GiB", size)
	}
	fromRaw := b.Loopcloud("image", "import", "--endpoint", b.Endpoint, "--name", "raw", disk)
	b.Sh("cmp " + disk + " " + b.Disk(fromRaw))
}

func TestUsageErrors(t *testing.T) {
	harness.NeedRoot(t)
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
		out, err := exec.Command(harness.Programs.Loopcloud, c.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("loopcloud %v: %v, should have said %q:\n%s", c.args, err, c.says, out)
		}
	}
}

// TestAPIsShareOneState writes to a volume of Outscale's, makes an image of it,
// and finds the bytes on a volume that EC2 makes of that image; and an image of
// EC2's is Outscale's to copy and to delete.
func TestAPIsShareOneState(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t, "--naming", "scsi")
	ctx, c := t.Context(), b.Outscale()
	image := outscaleImage(b, c, "both")

	seen, err := b.Client().DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{image}})
	b.Must(err)
	snapshot := *seen.Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
	if got := b.Sh("head -c 5 " + onEC2(b, snapshot)); got != "bytes" {
		t.Errorf("EC2's view of the image begins with %q", got)
	}
	registered, err := b.Client().RegisterImage(ctx, &ec2.RegisterImageInput{
		Name: aws.String("EC2's"), RootDeviceName: aws.String("/dev/sda1"), VirtualizationType: aws.String("hvm"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{
			DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: &snapshot},
		}},
	})
	b.Must(err)
	name, from := "a copy", harness.Region
	copied, err := c.CreateImage(ctx, osc.CreateImageRequest{ImageName: &name, SourceImageId: registered.ImageId, SourceRegionName: &from})
	b.Must(err)
	for _, id := range []string{*registered.ImageId, copied.Image.ImageId, image} {
		_, err := c.DeleteImage(ctx, osc.DeleteImageRequest{ImageId: id})
		b.Must(err)
	}
	left, err := b.Client().DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	b.Must(err)
	if len(left.Images) != 1 || *left.Images[0].ImageId != harness.SourceID {
		t.Errorf("left are %+v", left.Images)
	}
}

// outscaleImage makes an image through the Outscale API: volume, device, snapshot.
func outscaleImage(b *harness.Box, c *osc.Client, name string) string {
	b.Helper()
	ctx, root := b.Context(), "/dev/sda1"
	vms, err := c.ReadVms(ctx, osc.ReadVmsRequest{})
	b.Must(err)
	gib := 1
	made, err := c.CreateVolume(ctx, osc.CreateVolumeRequest{SubregionName: harness.Region + "a", Size: &gib})
	b.Must(err)
	volume := made.Volume.VolumeId
	onDevice(b, c, volume, (*vms.Vms)[0].VmId, "printf bytes | dd conv=fsync status=none of=")
	cut, err := c.CreateSnapshot(ctx, osc.CreateSnapshotRequest{VolumeId: &volume})
	b.Must(err)
	_, err = c.DeleteVolume(ctx, osc.DeleteVolumeRequest{VolumeId: volume})
	b.Must(err)
	image, err := c.CreateImage(ctx, osc.CreateImageRequest{
		ImageName: &name, RootDeviceName: &root,
		BlockDeviceMappings: &[]osc.BlockDeviceMappingImage{{
			DeviceName: &root, Bsu: &osc.BsuToCreate{SnapshotId: &cut.Snapshot.SnapshotId},
		}},
	})
	b.Must(err)
	return image.Image.ImageId
}

// onDevice links a volume, runs a script that ends in its device's name, and
// unlinks it. The link with the letter that was asked for leads to the device.
func onDevice(b *harness.Box, c *osc.Client, volume, vm, script string) {
	b.Helper()
	_, err := c.LinkVolume(b.Context(), osc.LinkVolumeRequest{VolumeId: volume, VmId: vm, DeviceName: "/dev/xvdqz"})
	b.Must(err)
	b.Sh(script + "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdqz")
	_, err = c.UnlinkVolume(b.Context(), osc.UnlinkVolumeRequest{VolumeId: volume})
	b.Must(err)
	harness.WaitFor(b.TB, "the volume is unlinked", func() bool { return b.VolumeState(volume) == types.VolumeStateAvailable })
}

// onEC2 is a node of a new volume of a snapshot.
func onEC2(b *harness.Box, snapshot string) string {
	b.Helper()
	volume := b.CreateVolume(1, snapshot)
	instances, err := b.Client().DescribeInstances(b.Context(), &ec2.DescribeInstancesInput{})
	b.Must(err)
	_, err = b.Client().AttachVolume(b.Context(), &ec2.AttachVolumeInput{
		VolumeId: &volume, InstanceId: instances.Reservations[0].Instances[0].InstanceId, Device: aws.String("/dev/xvdqz"),
	})
	b.Must(err)
	b.Cleanup(func() { b.Detach(volume) })
	return "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdqz"
}
