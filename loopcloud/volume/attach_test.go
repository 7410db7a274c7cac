//go:build linux

package volume_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
	"golang.org/x/sys/unix"
)

func TestDeviceNamesOfEachNaming(t *testing.T) {
	const byID = "/dev/disk/by-id/"
	tests := []struct {
		naming     volume.Naming
		asked      string
		base, link string // patterns
	}{
		{volume.Xen, "/dev/sdqa", "/dev/xvdqa", ""},
		{volume.Xen, "/dev/xvdqa", "/dev/xvdqa", ""},
		{volume.Xen, "xvdqa", "/dev/xvdqa", ""},
		{volume.Xen, "sdqa", "/dev/xvdqa", ""},
		{volume.NVMe, "/dev/sdqa", "/dev/nvme*n1", byID + "nvme-Amazon_Elastic_Block_Store_vol1"},
		{volume.SCSI, "/dev/xvdqa", "/dev/sd?", byID + "scsi-0QEMU_QEMU_HARDDISK_sdqa"},
		{volume.SCSI, "/dev/sdqa", "/dev/sd?", byID + "scsi-0QEMU_QEMU_HARDDISK_sdqa"},
	}
	for _, tt := range tests {
		t.Run(string(tt.naming)+tt.asked, func(t *testing.T) {
			s, device := attached(t, tt.naming, tt.asked)
			if ok, _ := filepath.Match(tt.base, device); !ok {
				t.Errorf("it is %s, want %s", device, tt.base)
			}
			run(t, ",", "sfdisk", device)
			part := disk.PartitionPath(device, 1)
			expectNames(t, device, " "+strings.TrimPrefix(part, device))
			if tt.link != "" {
				expectLink(t, tt.link, device)
				expectLink(t, tt.link+"-part1", part)
				run(t, "label: dos\n", "sfdisk", device)
				eventually(t, "the partition's link goes", func() bool { return !exists(tt.link + "-part1") })
			}
			must(t, s.DetachVolume("vol-1", false))
			if exists(device) || exists(part) || tt.link != "" && exists(tt.link) {
				t.Error("nodes or links are left")
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func expectLink(t *testing.T, link, node string) {
	t.Helper()
	eventually(t, link+" leads to "+node, func() bool {
		got, err := filepath.EvalSymlinks(link)
		return err == nil && got == node
	})
}

func TestInvalidDeviceNames(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	for _, naming := range []volume.Naming{volume.Xen, volume.NVMe, volume.SCSI} {
		s := open(t, dir, naming)
		_ = s.CreateVolume("vol-1", gib, "")
		for _, name := range []string{
			"", "/dev/", "/dev/sd", "/dev/sdqaa", "/dev/SDF", "/dev/sdf1", "/dev/hda", "/dev/nvme1n1", "/dev/null",
			"/dev/../etc/xvdf", "/dev/xvdf/..", "/dev/xvdf\n", "dev/xvdf", "/tmp/xvdf", " xvdf", "xvd*",
		} {
			_, err := s.AttachVolume("vol-1", name)
			wantError(t, err, nil, "not a device name")
		}
	}
	expectNothing(t, dir, "/dev/xvdqa")
	if _, err := volume.Open(dir, "ide", volume.Options{}); err == nil {
		t.Error("an unknown naming was accepted")
	}
}

// TestRepartitioned changes the partition table of an attached device with each kind of tool.
func TestRepartitioned(t *testing.T) {
	_, device := attached(t, volume.Xen, "/dev/sdqb")
	image := filepath.Join(testdir.New(t), "image")
	run(t, "", "truncate", "-s", "64M", image)
	run(t, "label: gpt\n15: size=4MiB\n", "sfdisk", "--quiet", image)
	steps := []struct{ name, command, want string }{
		{"parted", "parted -s $D mklabel msdos mkpart primary 1M 100% set 1 boot on print", " 1"},
		{"parted, others", "parted -s $D mklabel gpt mkpart a 1M 10M mkpart b 20M 30M", " 1 2"},
		{"parted, one less", "parted -s $D rm 1", " 2"},
		{"sfdisk", "printf 'label: dos\n,5MiB\n,\n' | sfdisk --quiet $D", " 1 2"},
		{"sfdisk, one more", "printf 'label: dos\n,5MiB\n,5MiB\n,\n' | sfdisk --quiet $D", " 1 2 3"},
		{"extended", "printf 'label: dos\n1:size=5MiB\n2:size=100MiB,type=E\n5:size=5MiB\n6:size=5MiB\n7:size=5MiB\n' | sfdisk --quiet $D", " 1 2 5 6 7"},
		{"extended, by parted", "parted -s $D rm 6", " 1 2 5 6"},
		{"an image is written", "dd status=none conv=fsync of=$D if=" + image, " 15"},
		{"the table is wiped", "wipefs --quiet --all --force $D", ""},
		{"mkfs as soon as it can be", "parted -s $D mklabel msdos mkpart primary 1M 20M; timeout 30 sh -c 'until [ -b ${D}1 ]; do sleep 0.01; done'; mkfs.ext4 -q ${D}1", " 1"},
	}
	for _, tt := range steps {
		t.Run(tt.name, func(t *testing.T) {
			run(t, "", "env", "D="+device, "sh", "-ec", tt.command)
			expectNames(t, device, tt.want)
		})
	}
}

// TestPartedAgainAndAgain checks that following the partition table does not disturb repeated
// runs of parted.
func TestPartedAgainAndAgain(t *testing.T) {
	_, device := attached(t, volume.Xen, "/dev/sdqc")
	for range 15 {
		run(t, "", "parted", "-s", device, "mklabel", "msdos", "mkpart", "primary", "1M", "100%")
		run(t, "", "parted", "-s", device, "mklabel", "gpt", "mkpart", "a", "2M", "10M", "mkpart", "b", "20M", "30M")
	}
	expectNames(t, device, " 1 2")
}

// TestMkfsNotDisturbed creates and fills a file system in one partition while the device is
// written and closed again and again.
func TestMkfsNotDisturbed(t *testing.T) {
	_, device := attached(t, volume.Xen, "/dev/sdqd")
	run(t, "label: dos\n,64MiB\n,\n", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1 2")
	stop := make(chan struct{})
	var touching sync.WaitGroup
	touching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f, err := os.OpenFile(device, os.O_RDWR, 0)
				if err != nil {
					t.Error(err)
					return
				}
				f.Close()
			}
		}
	})
	for range 5 {
		run(t, "", "mkfs.ext4", "-q", "-F", device+"1")
		dir, unmount := mount(t, device+"1")
		must(t, os.WriteFile(filepath.Join(dir, "file"), make([]byte, mib), 0o600))
		unmount()
		run(t, "", "e2fsck", "-f", "-n", device+"1")
	}
	close(stop)
	touching.Wait()
	expectNames(t, device, " 1 2")
}

func TestRepartitionedWhileMounted(t *testing.T) {
	_, device := attached(t, volume.Xen, "/dev/sdqe")
	run(t, "label: dos\n,64MiB\n", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	run(t, "", "mkfs.ext4", "-q", device+"1")
	dir, _ := mount(t, device+"1")
	run(t, "label: dos\n,64MiB\n,64MiB\n", "sfdisk", "--quiet", "--force", "--wipe=never", device)
	expectNames(t, device, " 1 2")
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("still here"), 0o600))
}

func TestPartitionsAtAttach(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", gib, ""))
	run(t, "label: gpt\n,64MiB\n,\n", "sfdisk", "--quiet", filepath.Join(dir, "volumes/vol-1.raw"))
	device := attach(t, s, "vol-1", "/dev/sdqf")
	// At once, not eventually.
	if got := names(t, device); got != " 1 2" || !rightNumbers(t, device) {
		t.Errorf("nodes %q", got)
	}
	must(t, s.DetachVolume("vol-1", false))
	expectNothing(t, dir, device)
}

func TestDetachMounted(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdqg")
	run(t, ",", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	run(t, "", "mkfs.ext4", "-q", device+"1")
	dir, unmount := mount(t, device+"1")
	err := s.DetachVolume("vol-1", false)
	wantError(t, err, state.ErrBusy, "mounted on "+dir)
	expectNames(t, device, " 1")
	wantError(t, s.DeleteVolume("vol-1"), state.ErrBusy, "attached")
	unmount()
	must(t, s.DetachVolume("vol-1", false))
	must(t, s.DetachVolume("vol-1", false)) // is no longer attached
	must(t, s.DeleteVolume("vol-1"))
}

func TestDetachOpen(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdqh")
	run(t, ",", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	for _, node := range []string{device, device + "1"} {
		reader := exec.Command("sh", "-c", "exec sleep 1000 <"+node)
		must(t, reader.Start())
		eventually(t, "the other process has it open", func() bool {
			target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", reader.Process.Pid))
			return err == nil && target == node
		})
		wantError(t, s.DetachVolume("vol-1", false), state.ErrBusy, fmt.Sprintf("process %d", reader.Process.Pid))
		expectNames(t, device, " 1")
		must(t, reader.Process.Kill())
		_ = reader.Wait()
	}
	// The partitions are still followed after that.
	run(t, ",64MiB\n,\n", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1 2")
	must(t, s.DetachVolume("vol-1", false))
}

func TestDetachByForce(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdqi")
	run(t, ",", "sfdisk", "--quiet", device)
	expectNames(t, device, " 1")
	run(t, "", "mkfs.ext4", "-q", device+"1")
	_, unmount := mount(t, device+"1")
	must(t, s.DetachVolume("vol-1", true))
	if got := names(t, device); got != "" || exists(device) {
		t.Errorf("nodes are left: %q", got)
	}
	_, err := s.AttachVolume("vol-1", "/dev/sdqi")
	wantError(t, err, state.ErrBusy, "in use by /dev/loop")
	unmount()
	device = attach(t, s, "vol-1", "/dev/sdqi")
	expectNames(t, device, " 1")
}

func TestAttachTwice(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdqj")
	_, err := s.AttachVolume("vol-1", "/dev/sdqk")
	wantError(t, err, state.ErrBusy, "vol-1")
	must(t, s.CreateVolume("vol-2", gib, ""))
	_, err = s.AttachVolume("vol-2", "/dev/xvdqj")
	wantError(t, err, state.ErrDeviceTaken, device)
	_, err = s.AttachVolume("vol-3", "/dev/sdqk")
	wantError(t, err, os.ErrNotExist, "vol-3")
}

func TestAttachNameOfSomeoneElse(t *testing.T) {
	_, other := attached(t, volume.NVMe, "/dev/sdqk")
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", gib, ""))
	for _, node := range []string{"/dev/xvdql", "/dev/xvdql1"} {
		run(t, "", "cp", "--archive", other, node)
		_, err := s.AttachVolume("vol-1", "/dev/sdql")
		wantError(t, err, state.ErrDeviceTaken, node)
		if !exists(node) {
			t.Errorf("%s is gone", node)
		}
		must(t, os.Remove(node))
	}
	expectNothing(t, dir, "/dev/xvdql")
}

// TestAttachWithLink checks that a dangling link is replaced, and that another link is not.
func TestAttachWithLink(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.SCSI)
	must(t, s.CreateVolume("vol-1", gib, ""))
	link := "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdqm"
	must(t, os.MkdirAll(filepath.Dir(link), 0o755))
	must(t, os.Symlink("../../null", link))
	t.Cleanup(func() { os.Remove(link) })
	_, err := s.AttachVolume("vol-1", "/dev/sdqm")
	wantError(t, err, state.ErrDeviceTaken, link)
	if left := loopDevices(t, dir); len(left) > 0 {
		t.Errorf("loop devices are left: %v", left)
	}
	must(t, os.Remove(link))
	must(t, os.MkdirAll(filepath.Dir(link), 0o755))
	must(t, os.Symlink("../../gone", link))
	device := attach(t, s, "vol-1", "/dev/sdqm")
	expectLink(t, link, device)
}

// TestAttachBesideAnotherNaming checks two clouds with different naming schemes on one
// machine. A program that looks for a device may try the names of both.
func TestAttachBesideAnotherNaming(t *testing.T) {
	const link, node = "/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_sdqo", "/dev/xvdqo"
	for first, then := range map[volume.Naming]volume.Naming{volume.Xen: volume.SCSI, volume.SCSI: volume.Xen} {
		t.Run(string(first)+" first", func(t *testing.T) {
			s, device := attached(t, first, "/dev/sdqo")
			dir := testdir.New(t)
			other := open(t, dir, then)
			must(t, other.CreateVolume("vol-2", gib, ""))
			_, err := other.AttachVolume("vol-2", "/dev/sdqo")
			wantError(t, err, state.ErrDeviceTaken, "exists")
			if exists(node) != (first == volume.Xen) || exists(link) != (first == volume.SCSI) || !exists(device) {
				t.Error("the names are not as they were")
			}
			if left := loopDevices(t, dir); len(left) > 0 {
				t.Errorf("loop devices are left: %v", left)
			}
			must(t, s.DetachVolume("vol-1", false))
			attach(t, other, "vol-2", "/dev/sdqo")
		})
	}
}

// TestRaceForName checks that of several stores that attach under one name at once, one
// succeeds.
func TestRaceForName(t *testing.T) {
	testroot.Need(t, "real block devices")
	const n = 6
	var stores [n]*volume.Store
	var dirs [n]string
	for i := range stores {
		dirs[i] = testdir.New(t)
		stores[i] = open(t, dirs[i], volume.Xen)
		must(t, stores[i].CreateVolume("vol-1", gib, ""))
	}
	for range 5 {
		var all sync.WaitGroup
		var errs [n]error
		for i, s := range stores {
			all.Go(func() { _, errs[i] = s.AttachVolume("vol-1", "/dev/sdqn") })
		}
		all.Wait()
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = i
			case !errors.Is(err, state.ErrDeviceTaken):
				t.Errorf("store %d: got error %v; want the name to be taken", i, err)
			case len(loopDevices(t, dirs[i])) > 0:
				t.Errorf("store %d lost and kept its loop device", i)
			}
		}
		if winner < 0 {
			t.Fatal("nobody got the name")
		}
		must(t, stores[winner].DetachVolume("vol-1", false))
		expectNothing(t, dirs[winner], "/dev/xvdqn")
	}
}

// TestManyAtOnce attaches many volumes of one store at once.
func TestManyAtOnce(t *testing.T) {
	testroot.Need(t, "real block devices")
	for _, naming := range []volume.Naming{volume.NVMe, volume.SCSI} {
		dir := testdir.New(t)
		s := open(t, dir, naming)
		var all sync.WaitGroup
		var mu sync.Mutex
		paths := map[string]bool{}
		for i := range 8 {
			id := fmt.Sprintf("vol-%d", i)
			must(t, s.CreateVolume(id, gib, ""))
			all.Go(func() {
				path, err := attachWhenFree(s, id, fmt.Sprintf("/dev/sdr%c", 'a'+i))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				paths[path] = true
			})
		}
		all.Wait()
		if len(paths) != 8 {
			t.Errorf("eight volumes have the nodes %v", paths)
		}
		must(t, s.ReleaseAll())
		for path := range paths {
			expectNothing(t, dir, path)
		}
	}
}

func TestResizeAttached(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdqo")
	must(t, s.ResizeVolume("vol-1", 3*gib))
	if got := run(t, "", "blockdev", "--getsize64", device); got != "3221225472" {
		t.Errorf("the device has %s bytes", got)
	}
	wantError(t, s.ResizeVolume("vol-1", gib), nil, "cannot shrink")
	wantError(t, s.ResizeVolume("vol-2", gib), os.ErrNotExist, "vol-2")
}

// TestKilledProcessLeavesDevices kills another process that has attached and mounted a volume.
func TestKilledProcessLeavesDevices(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.NVMe)
	must(t, s.CreateVolume("vol-1", gib, ""))
	run(t, "label: gpt\n,64MiB\n,\n", "sfdisk", "--quiet", filepath.Join(dir, "volumes/vol-1.raw"))
	device := attachInChild(t, dir)
	expectNames(t, device, " p1 p2")
	must(t, os.WriteFile(filepath.Join(dir, "volumes", ".unfinished-1"), nil, 0o600))
	must(t, s.ReleaseAll())
	expectNothing(t, dir, device)
	if exists(filepath.Join(dir, "volumes", ".unfinished-1")) {
		t.Error("an unfinished file is left")
	}
	attach(t, s, "vol-1", "/dev/sdqp")
}

// attachInChild attaches vol-1 in a process that is then killed.
func attachInChild(t *testing.T, dir string) (device string) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	must(t, child.Process.Kill())
	_ = child.Wait()
	device = strings.TrimSpace(line)
	if !strings.HasPrefix(device, "/dev/") {
		t.Fatalf("the child says: %s", line)
	}
	return device
}

func TestReleaseAllMounted(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	for i, id := range []string{"vol-1", "vol-2"} {
		must(t, s.CreateVolume(id, gib, ""))
		device := attach(t, s, id, fmt.Sprintf("/dev/sdq%c", 'q'+i))
		run(t, ",", "sfdisk", "--quiet", device)
		expectNames(t, device, " 1")
	}
	run(t, "", "mkfs.ext4", "-q", "/dev/xvdqq1")
	mnt, unmount := mount(t, "/dev/xvdqq1")
	err := s.ReleaseAll()
	wantError(t, err, state.ErrBusy, "mounted on "+mnt)
	wantError(t, err, nil, "released when that ends")
	if strings.Contains(err.Error(), "vol-2") {
		t.Errorf("the one that is not in use is told of: %v", err)
	}
	if left := loopDevices(t, dir); len(left) != 1 {
		t.Errorf("loop devices that are left: %v; want the mounted one", left)
	}
	loop := loopDevices(t, dir)[0]
	unmount()
	eventually(t, "the kernel releases it", func() bool { return len(loopDevices(t, dir)) == 0 })
	expectNothing(t, dir, "/dev/xvdqq")
	eventually(t, "its partition goes", func() bool { return !exists(loop + "p1") })
	must(t, s.ReleaseAll())
}

func TestReleaseAllOfDeletedFile(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", gib, ""))
	device := attach(t, s, "vol-1", "/dev/sdqs")
	must(t, os.Remove(filepath.Join(dir, "volumes/vol-1.raw")))
	must(t, s.ReleaseAll())
	expectNothing(t, dir, device)
}

func TestReleaseAllLeavesOthers(t *testing.T) {
	s, device := attached(t, volume.Xen, "/dev/sdqt")
	other := open(t, testdir.New(t), volume.Xen)
	must(t, other.ReleaseAll())
	expectNames(t, device, "")
	must(t, s.DetachVolume("vol-1", false))
}

// TestLeftoverNodes checks that the nodes of a loop device whose file was detached by another
// process are not used for the next volume on the device.
func TestLeftoverNodes(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir := testdir.New(t)
	s := open(t, dir, volume.Xen)
	must(t, s.CreateVolume("vol-1", gib, ""))
	device := attach(t, s, "vol-1", "/dev/sdqu")
	run(t, "", "losetup", "--detach", loopDevices(t, dir)[0])
	var before, after unix.Stat_t
	must(t, unix.Stat(device, &before))
	again := attach(t, s, "vol-1", "/dev/sdqv")
	must(t, unix.Stat(again, &after))
	if after.Rdev == before.Rdev && exists(device) {
		t.Errorf("%s is left, and is the device of %s", device, again)
	}
	_ = os.Remove(device) // the device may be another one by now
}

// TestWithoutRoot runs the other process as the user nobody.
func TestWithoutRoot(t *testing.T) {
	testroot.Need(t, "real block devices")
	dir, err := os.MkdirTemp("", "volume")
	must(t, err)
	t.Cleanup(func() { must(t, remove.All(dir)) })
	program := filepath.Join(dir, "program")
	run(t, "", "cp", os.Args[0], program)
	run(t, "", "chmod", "0755", dir, program)
	data := filepath.Join(dir, "data")
	must(t, os.Mkdir(data, 0o700))
	must(t, open(t, data, volume.NVMe).CreateVolume("vol-1", gib, ""))
	run(t, "", "chown", "-R", "65534:65534", data)
	child := exec.Command(program)
	child.Env = append(os.Environ(), childEnv+"="+data)
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	must(t, child.Process.Kill())
	_ = child.Wait()
	want := "cannot attach vol-1 as /dev/sdf: attaching a block device needs root: open /dev/loop-control: permission denied\n"
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
