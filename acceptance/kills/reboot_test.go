package kills

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
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
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu/qemutest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestQEMUReboot has a machine crash in the middle of builds, and cleans up after it was
// booted anew: once by the command reap, and once, from the same disks, by the next
// builds. It runs in the machine too, and does one of the parts there.
func TestQEMUReboot(t *testing.T) {
	if part := os.Getenv(partEnv); part != "" {
		parts[part](newGuest(t))
		return
	}
	kernel := qemutest.Kernel(t)
	harness.NeedRoot(t)
	h := newHardware(t, kernel)
	h.boot(t, partCrash)
	for _, part := range []string{partReap, partNext} {
		t.Run(part, func(t *testing.T) { h.copied(t).boot(t, part) })
	}
}

// partEnv names the part of the test that the virtual machine runs.
const partEnv = "REBOOT_PART"

const (
	partCrash = "crash"
	partReap  = "reap"
	partNext  = "next"
)

var parts = map[string]func(*guest){partCrash: (*guest).crash, partReap: (*guest).cleanByReap, partNext: (*guest).cleanByBuilds}

// Lines on the console of the machine when a part has ended well.
const (
	saidCrash = "guest: crashes now"
	saidDone  = "guest: done"
)

// hardware is a virtual machine's programs, which are in its memory, and its disks, which survive a crash.
type hardware struct {
	kernel, initramfs string
	// cloud holds loopcloud's directory and the mount points of builds. It is synced before the crash: a real cloud
	// does not crash with its hosts.
	cloud string
	// journals is the host's /var. After a crash it holds only synced data.
	journals string
}

func newHardware(t *testing.T, kernel string) hardware {
	t.Helper()
	dir := testdir.New(t)
	h := hardware{kernel: kernel, initramfs: memory(t, kernel), cloud: filepath.Join(dir, "cloud.raw"), journals: filepath.Join(dir, "journals.raw")}
	b := harness.Restored(t, dir, filepath.Join(dir, guestDir, "cloud"))
	b.ImportSource()
	b.Must(os.MkdirAll(filepath.Join(dir, guestMounts), 0o755)) // as after other builds
	qemutest.Run(t, "mkfs.ext4", "-q", "-d", filepath.Join(dir, "mnt"), h.cloud, "2G")
	qemutest.Run(t, "mkfs.ext4", "-q", h.journals, "256M")
	return h
}

// memory returns the initramfs of the machine, with the programs and this test.
func memory(t *testing.T, kernel string) (initramfs string) {
	t.Helper()
	root := qemutest.NewRoot(t, guestInit)
	qemutest.Run(t, "cp", "-a", harness.Programs.Root+"/.", root.Path("."))
	qemutest.Run(t, "cp", qemutest.Module(t, kernel, "drivers/block/loop"), root.Path("loop.ko"))
	for _, dir := range []string{"mnt", "programs"} {
		if err := os.Mkdir(root.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(root.Path("etc/resolv.conf"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	programs := []string{"-aL", harness.Programs.Packer, harness.Programs.Loopcloud, harness.Programs.Plugins}
	for _, f := range harness.Flavors {
		programs = append(programs, harness.Programs.Only(f))
	}
	qemutest.Run(t, "cp", append(programs, root.Path("programs"))...)
	for _, f := range harness.Flavors { // which reap finds beside loopcloud
		qemutest.Run(t, "sh", "-c", `cd "$0" && ln -s plugins/*/*/*/packer-plugin-"$1"_*64 packer-plugin-"$1"`, root.Path("programs"), f.Name)
	}
	root.Go(t, "programs/test", "test", "-c", "-vet=off", "-ldflags=-s -w", ".")
	return root.Pack(t)
}

// guestInit boots an ordinary host, except that data in /var is written to the disk only by a sync.
const guestInit = `
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t tmpfs run /run
mkdir /run/lock
ip link set lo up
insmod /loop.ko
echo 0 > /proc/sys/vm/dirty_writeback_centisecs
until [ -b /dev/nvme0n1 ] && [ -b /dev/nvme0n2 ]; do usleep 10000; done
mount -t ext4 /dev/nvme0n1 /mnt
mount -t ext4 -o commit=1000 /dev/nvme0n2 /var
mkdir -p /var/lib
/programs/test -test.v -test.run '^TestQEMUReboot$' && echo ` + saidDone

// copied is another machine with the same disks.
func (h hardware) copied(t *testing.T) hardware {
	t.Helper()
	dir := testdir.New(t)
	qemutest.Run(t, "cp", "--sparse=always", h.cloud, h.journals, dir)
	h.cloud, h.journals = filepath.Join(dir, filepath.Base(h.cloud)), filepath.Join(dir, filepath.Base(h.journals))
	return h
}

// boot boots the machine for a part, and waits until it has ended.
func (h hardware) boot(t *testing.T, part string) {
	t.Helper()
	begun := time.Now()
	args := []string{"-device", "nvme,id=disks,serial=disks"}
	for i, file := range []string{h.cloud, h.journals} {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,file=%s", i, file),
			"-device", fmt.Sprintf("nvme-ns,drive=disk%d,bus=disks,nsid=%d", i, i+1))
	}
	m := qemutest.Machine{
		Kernel: h.kernel, Initramfs: h.initramfs, MemoryMiB: 2048, Command: partEnv + "=" + part, Args: args, Limit: 20 * time.Minute,
	}.Boot(t)
	want, said := saidDone, false
	if part == partCrash {
		want = saidCrash
	}
	for line := range m.Lines {
		if _, told, ok := strings.Cut(line, "guest: "); ok {
			t.Logf("%3.0f s: %s", time.Since(begun).Seconds(), told)
		}
		said = said || strings.Contains(line, want)
	}
	if !said {
		t.Fatalf("the machine did not say %q; it said:\n%s", want, m.Said())
	}
}

// Where things are in the machine: all where they are on any host.
const (
	guestDir      = "/mnt/acceptance"
	guestMounts   = "/mnt/packer-amazon-chroot-volumes"
	guestJournals = "/var/lib/packer-chroot"
	guestLocks    = "/run/lock/packer-chroot"
	// guestKept holds the results of the parts before the crash, for the parts after it.
	guestKept = guestDir + "/kept.json"
)

// guest is a box in the machine.
type guest struct{ *harness.Box }

func newGuest(t *testing.T) *guest {
	b := harness.Restored(t, guestDir, filepath.Join(guestDir, "cloud"))
	b.Serve("--listen", "127.0.0.1:4600") // the same after a boot: journals are of an endpoint
	b.Env = append(b.Environment(b.Endpoint), "TMPDIR=/tmp", "PACKER_CHROOT_STATE_DIR=", "PACKER_CHROOT_LOCK_DIR=")
	t.Cleanup(b.Stop)
	return &guest{b}
}

// say prints a line on the console.
func say(format string, args ...any) { fmt.Printf("guest: "+format+"\n", args...) }

// kept holds the facts that are needed after the crash.
type kept struct {
	// Cloud and Host are as they were before the builds.
	Cloud, Host []string
	// Attached are the attachments at the time of the crash.
	Attached []types.VolumeAttachment
}

// host lists everything that builds could leave on the machine.
func (g *guest) host() []string {
	all := append(leftovers(g.Box), filesBelow(guestJournals)...)
	all = append(all, filesBelow(guestLocks)...)
	for _, line := range strings.Split(strings.TrimSpace(harness.Read("/proc/self/mountinfo")), "\n") {
		all = append(all, "mount on "+strings.Fields(line)[4])
	}
	for _, dir := range g.mountPoints() { // empty ones stay: after a boot nothing shows whose they are
		all = append(all, filesBelow(dir)...)
	}
	slices.Sort(all)
	return all
}

func (g *guest) mountPoints() []string {
	dirs, err := filepath.Glob(guestMounts + "/*")
	g.Must(err)
	return dirs
}

// Two builds of each flavor: one stops in its provisioner, and one goes on from there to
// a call that is held.
const (
	nameStops = "stops"
	nameHeld  = "held"
)

// here returns a builder with the instance's ID. The metadata service has a time limit of seconds, which is too short
// under emulation.
func (g *guest) here(f harness.Flavor, more harness.O) harness.O {
	out, err := g.Client().DescribeInstances(context.Background(), &ec2.DescribeInstancesInput{})
	g.Must(err)
	builder, id := f.Basic(more), aws.ToString(out.Reservations[0].Instances[0].InstanceId)
	if f.Name == "osc-chroot" {
		builder["vm_id"] = id
	} else {
		builder["instance_id"], builder["skip_metadata_api_check"] = id, true
	}
	return builder
}

// begins starts the two builds of a flavor, and waits until the machine has so many at
// work in their roots.
func (g *guest) begins(f harness.Flavor, all int) *harness.Underway {
	var builders []string
	for _, name := range []string{nameStops, nameHeld} {
		builders = append(builders, harness.ToJSON(g.here(f, harness.O{"name": name, "PREFIX_name": f.Name + " " + name})))
	}
	waiting := harness.Shell("echo $PACKER_BUILD_NAME > /at-work", "until [ -e /go-on ]; do sleep 1; done")
	template := g.Write(f.Name+".json", fmt.Sprintf(`{"builders": [%s], "provisioners": [%s]}`, strings.Join(builders, ","), harness.ToJSON(waiting)))
	u := &harness.Underway{Box: g.Box, Out: &harness.SyncedText{}}
	u.Cmd = g.Command(context.Background(), "build", "-color=false", template)
	u.Cmd.Stdout, u.Cmd.Stderr = u.Out, u.Out
	g.Must(u.Cmd.Start())
	u.Until(8*time.Minute, "at work", func() bool {
		time.Sleep(300 * time.Millisecond)
		return len(g.atWork("")) == all
	})
	return u
}

// atWork are the roots in which builds of a name are, or all.
func (g *guest) atWork(name string) (roots []string) {
	marks, err := filepath.Glob(guestMounts + "/*/at-work")
	g.Must(err)
	for _, mark := range marks {
		if strings.HasPrefix(harness.Read(mark), name) {
			roots = append(roots, filepath.Dir(mark))
		}
	}
	return roots
}

// crash resets the machine when all builds have reached their places. Data that is not on the disk by then is lost.
func (g *guest) crash() {
	k := kept{Cloud: g.Inventory(), Host: g.host()}
	for _, call := range []harness.O{{"dialect": "ec2", "action": "CreateSnapshot"}, {"dialect": "oapi", "action": "CreateImage"}} {
		call["hold"] = "after"
		g.Control(http.MethodPost, "faults", call, nil)
	}
	var u *harness.Underway
	for i, f := range harness.Flavors {
		u = g.begins(f, 2*(i+1))
		say("two builds of %s are at work", f.Name)
	}
	for _, root := range g.atWork(nameHeld) {
		g.Must(os.WriteFile(filepath.Join(root, "go-on"), nil, 0o600))
	}
	u.Until(8*time.Minute, "where they are held", func() bool {
		time.Sleep(300 * time.Millisecond)
		var held []struct{ Action string }
		g.Control(http.MethodGet, "held", nil, &held)
		volumes, attached := g.volumes()
		k.Attached = attached
		// the build that registers its image has detached its volume by then
		return len(held) == 2 && len(volumes) == 3 && len(attached) == 3
	})
	g.Must(os.WriteFile(guestKept, []byte(harness.ToJSON(k)), 0o600))
	g.syncCloud()
	say("crashes now, with %d journals and %d mount points", len(filesBelow(guestJournals)), len(g.mountPoints()))
	const drain = 1
	g.Must(unix.IoctlSetInt(int(os.Stdout.Fd()), unix.TCSBRK, drain)) // or what was said is lost as well
	g.Must(os.WriteFile("/proc/sysrq-trigger", []byte("b"), 0o200))
	time.Sleep(time.Minute)
	g.Fatal("the machine runs on")
}

// syncCloud brings everything to the cloud's disk, and nothing to the journals'.
func (g *guest) syncCloud() {
	dir, err := os.Open(g.Store)
	g.Must(err)
	defer dir.Close()
	g.Must(unix.Syncfs(int(dir.Fd())))
}

// volumes returns the volumes of builds and their attachments.
func (g *guest) volumes() (volumes []types.Volume, attached []types.VolumeAttachment) {
	out, err := g.Client().DescribeVolumes(context.Background(), &ec2.DescribeVolumesInput{
		Filters: []types.Filter{{Name: aws.String("tag-key"), Values: []string{"packer-chroot-build"}}},
	})
	g.Must(err)
	for _, v := range out.Volumes {
		attached = append(attached, v.Attachments...)
	}
	return out.Volumes, attached
}

// booted attaches the volumes again, as a cloud does for a rebooted machine, and checks that there is something to
// clean up.
func (g *guest) booted() (k kept) {
	g.Must(json.Unmarshal([]byte(harness.Read(guestKept)), &k))
	for _, a := range k.Attached {
		_, err := g.Client().AttachVolume(context.Background(), &ec2.AttachVolumeInput{VolumeId: a.VolumeId, InstanceId: a.InstanceId, Device: a.Device})
		g.Must(err)
	}
	journals, mounts := filesBelow(guestJournals), g.mountPoints()
	if len(journals) != 4 || len(mounts) != 2 {
		g.Errorf("of 4 journals and 2 mount points the crash has left %q and %q", journals, mounts)
	}
	say("booted anew, with %d journals and %d mount points", len(journals), len(mounts))
	return k
}

// compare fails the test if cloud and host are not as they were.
func (g *guest) compare(k kept) {
	cloud, host := cmp.Diff(k.Cloud, g.Inventory()), cmp.Diff(k.Host, g.host())
	if cloud+host != "" {
		g.Errorf("not as before the crash (-before +after):\n%s%s", cloud, host)
		return
	}
	say("0 differences")
}

// cleanByReap has the command of each plugin clean up after its builds, and then find
// nothing.
func (g *guest) cleanByReap() {
	k := g.booted()
	for _, f := range harness.Flavors {
		all, _ := g.Reap(f) // there are the other plugin's too
		removed := 0
		for _, r := range all {
			if r.Fate == "removed" && r.Program == f.Name {
				removed++
				say("%s reap: %s", f.Name, strings.Join(r.Undone, ", "))
			} else if r.Fate != "elsewhere" || r.Program == f.Name {
				g.Errorf("%s reap: %+v", f.Name, r)
			}
		}
		if removed != 2 {
			g.Errorf("%s reap cleans up after %d builds: %+v", f.Name, removed, all)
		}
	}
	for _, f := range harness.Flavors {
		if all, status := g.Reap(f); status != 0 || len(all) != 0 {
			g.Errorf("%s reap, the second time: status %d, %+v", f.Name, status, all)
		}
	}
	g.compare(k)
}

// cleanByBuilds has the next builds clean up.
func (g *guest) cleanByBuilds() {
	k := g.booted()
	var builders []string
	for _, f := range harness.Flavors {
		builders = append(builders, harness.ToJSON(g.here(f, nil)))
	}
	cmd := g.Command(context.Background(), "build", "-color=false", g.Write("template.json", `{"builders": [`+strings.Join(builders, ",")+`]}`))
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.Fatalf("the next builds fail: %v\n%s", err, out)
	}
	say("built")
	for _, image := range g.Images() {
		if image.ID != harness.SourceID {
			g.Remove(image.ID)
		}
	}
	g.compare(k)
	if g.Failed() {
		g.Logf("the builds said:\n%s", out)
	}
}
