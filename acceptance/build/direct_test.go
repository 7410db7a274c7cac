package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// TestDirectBasicExample builds the Basic Example of the reference with ebs_direct on a machine that is not an
// instance: the metadata service refuses, and no volume is created.
func TestDirectBasicExample(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	b.Stop()
	template := b.Write("template.json", `{"builders": [{
  "type": "amazon-chroot",
  "access_key": "YOUR KEY HERE",
  "secret_key": "YOUR SECRET KEY HERE",
  "source_ami": "ami-e81d5881",
  "ami_name": "packer-amazon-chroot {{timestamp}}",
  "ebs_direct": true
}], "provisioners": [{"type": "shell", "inline": ["echo direct > /root/direct", "rm /etc/hostname"]}]}`)
	cmd := exec.Command(harness.Programs.Loopcloud, "run", "--dir", b.Store, "--hosts", "0", "--", harness.Programs.Packer, "build", "-color=false", template)
	cmd.Dir = b.Dir
	cmd.Env = slices.DeleteFunc(slices.Clone(b.Env), func(e string) bool {
		return strings.HasPrefix(e, "AWS_") || strings.HasPrefix(e, "OSC_")
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("loopcloud run: %v\n%s", err, out)
	}
	t.Log(string(out))
	b.Serve("--hosts", "0")
	made := b.Made()
	if !strings.HasPrefix(made.Name, "packer-amazon-chroot ") {
		t.Errorf("the image is %+v", made)
	}
	disk := b.Disk(made.ID)
	if got := b.Content(disk, "/root/direct"); got != "direct\n" {
		t.Errorf("the provisioner's file holds %q", got)
	}
	if b.Has(disk, "/etc/hostname") || !b.Has(disk, "/bin/busybox") {
		t.Error("the root is not the source's with the provisioner's changes")
	}
	b.Clean()
}

// TestDirectExamples builds the examples of direct builds.
func TestDirectExamples(t *testing.T) {
	b := outside(t)
	example := func(name string) string {
		return filepath.Join(harness.Programs.Repo, "examples", "amazon-chroot", name+".pkr.hcl")
	}
	b.Build(example("direct"), "-var", "source="+harness.SourceID)
	made := b.Made()
	if got := b.Content(b.Disk(made.ID), "/etc/motd"); got != "built from "+harness.SourceID+" without an instance\n" || made.Tags["made-by"] != "packer" {
		t.Errorf("/etc/motd holds %q, and the tags are %v", got, made.Tags)
	}
	b.Remove(made.ID)
	archive := filepath.Join(b.Dir, "root.tar")
	b.Sh("tar -C " + harness.Programs.Root + " -cf " + archive + " .")
	b.Build(example("direct-scratch"), "-var", "archive="+archive)
	disk := b.Disk(b.Made().ID)
	if got := b.Content(disk, "/etc/fstab"); got != "LABEL=root / ext4 errors=remount-ro 0 1\n" || !b.Has(disk, "/bin/busybox") {
		t.Errorf("/etc/fstab holds %q", got)
	}
}

// outside starts a cloud on a machine that is no instance of it.
func outside(t *testing.T) *harness.Box {
	harness.NeedRoot(t)
	t.Parallel()
	return harness.New(t, "--hosts", "0")
}

// reported matches the figures of a direct build.
var reported = regexp.MustCompile(`fetched ([0-9.]+) MiB .*the system read ([0-9.]+) MiB and wrote ([0-9.]+) MiB.*uploaded ([0-9.]+) MiB`)

var fromCache = regexp.MustCompile(`[1-9][0-9]* others came from the block cache`)

// traffic holds the figures that a direct build reports, in MiB.
type traffic struct{ fetched, read, written, uploaded float64 }

// trafficOf returns the figures in the output of a build.
func trafficOf(t testing.TB, output string) traffic {
	t.Helper()
	found := reported.FindStringSubmatch(harness.Flat(output))
	if found == nil {
		t.Fatalf("the build does not report what it has fetched and uploaded:\n%s", output)
	}
	var mib [4]float64
	for i := range mib {
		var err error
		if mib[i], err = strconv.ParseFloat(found[i+1], 64); err != nil {
			t.Fatal(err)
		}
	}
	return traffic{mib[0], mib[1], mib[2], mib[3]}
}

// TestDirectBuildsOnEachOther: a build from the image of another one reads what that one has uploaded, and a second
// build from the same source fetches nothing.
func TestDirectBuildsOnEachOther(t *testing.T) {
	b := outside(t)
	f := harness.Direct
	out := b.Build(b.Template(f.Basic(harness.O{"ami_name": "first"}), harness.Shell("echo one > /root/one")))
	if trafficOf(t, out).fetched == 0 {
		t.Errorf("the first build fetched nothing:\n%s", out)
	}
	first := b.Made().ID
	out = b.Build(b.Template(f.Basic(harness.O{"ami_name": "second"}), harness.Shell("echo one > /root/one")))
	if mib := trafficOf(t, out).fetched; mib > 0 {
		t.Errorf("the second build fetched %v MiB:\n%s", mib, out)
	}
	if !fromCache.MatchString(harness.Flat(out)) {
		t.Errorf("the second build does not report blocks from the cache:\n%s", out)
	}
	b.Remove(b.BuiltFrom(first).ID)
	b.Build(b.Template(f.Basic(harness.O{"ami_name": "third", "source_ami": first}), harness.Shell("echo two > /root/two; rm /root/one; mkdir /root/three")))
	disk := b.Disk(b.BuiltFrom(first).ID)
	if got := b.Content(disk, "/root/two"); got != "two\n" || b.Has(disk, "/root/one") || !b.Has(disk, "/root/three") {
		t.Errorf("the second generation holds %q", got)
	}
}

// TestDirectIsLikeAttached: the same template makes the same tree of files with a volume and without one.
func TestDirectIsLikeAttached(t *testing.T) {
	harness.NeedRoot(t)
	t.Parallel()
	b := harness.New(t)
	trees := map[bool]string{}
	for _, f := range []harness.Flavor{harness.Flavors[0], harness.Direct} {
		b.Build(b.Template(f.Basic(nil), harness.Shell("echo content > /root/file; mkdir -p /srv/a/b; ln -s a /srv/link; chmod 4750 /root/file; rm /etc/hostname")))
		made := b.Made()
		trees[f.Direct] = tree(b, b.Disk(made.ID))
		b.Remove(made.ID)
	}
	if diff := cmp.Diff(trees[false], trees[true]); diff != "" || !strings.Contains(trees[true], "srv/a/b") {
		t.Errorf("the trees differ (-attached +direct):\n%s\n%s", diff, trees[true])
	}
}

// tree lists the files of the first partition of a disk with type, mode, owner, link and checksum.
func tree(b *harness.Box, disk string) string {
	b.Helper()
	dir := filepath.Join(b.Dir, "tree")
	b.Must(os.MkdirAll(dir, 0o755))
	b.Must(harness.Run("mount", "-o", "loop,ro,noload,offset=1048576", disk, dir))
	defer func() { b.Must(harness.Run("umount", dir)) }()
	out, err := exec.Command("sh", "-c", `cd "$1" && find . ! -name lost+found -printf "%P %y %m %U:%G %l\n" | sort && find . -type f -exec sha256sum {} + | sort -k 2`, "sh", dir).Output()
	b.Must(err)
	return string(out)
}

// TestDirectFromScratch: an empty disk has no parent, and all of its written blocks are uploaded.
func TestDirectFromScratch(t *testing.T) {
	b := outside(t)
	f := harness.Direct
	options := f.Basic(harness.O{
		"source_ami": nil, "from_scratch": true, "root_volume_size": 1, "ami_virtualization_type": "hvm", "root_device_name": "xvda",
		"pre_mount_commands":        []string{"parted {{.Device}} mklabel msdos mkpart primary 1M 100% set 1 boot on print", "mkfs.ext4 {{.Device}}1"},
		"ami_block_device_mappings": []harness.O{{"device_name": "xvda", "delete_on_termination": true, "volume_type": "gp2"}},
	})
	b.Build(b.Template(options,
		harness.O{"type": "shell-local", "inline": []string{"cp -a " + harness.Programs.Root + "/. {{build `MountPath`}}/"}},
		harness.Shell("echo scratch > /root/made")))
	if got := b.Content(b.Disk(b.Made().ID), "/root/made"); got != "scratch\n" {
		t.Errorf("the file holds %q", got)
	}
}

// TestDirectFails: a provisioner that fails, and blocks that cannot be read, fail the build, which undoes everything.
func TestDirectFails(t *testing.T) {
	b := outside(t)
	before := b.Inventory()
	f := harness.Direct
	b.Fails(b.Template(f.Basic(nil), harness.Shell("exit 3")), "undone: snapshot snap-", "mount of /dev/loop", "disk lazydisk-")
	b.Unchanged(before)
	b.ForgetBlocks()
	b.Control("POST", "faults", harness.O{"action": "GetSnapshotBlock", "code": "AccessDeniedException", "status": 403}, nil)
	b.Fails(b.Template(f.Basic(nil), harness.Shell("true")), "block", "AccessDenied")
	b.GoOn()
	b.Unchanged(before)
	b.Control("POST", "faults", harness.O{"action": "StartSnapshot", "code": "AccessDeniedException", "status": 403}, nil)
	out := b.Fails(b.Template(f.Basic(nil), harness.Shell("true")), "AccessDenied")
	if strings.Contains(out, "Provisioning") {
		t.Errorf("a missing permission is reported after provisioning:\n%s", out)
	}
	b.GoOn()
	b.Unchanged(before)
}

// TestDirectSixteenAtOnce: sixteen direct builds of one template share a cache. Each block is fetched once, and each
// image has the mark of its build.
func TestDirectSixteenAtOnce(t *testing.T) {
	b := outside(t)
	var builders, provisioners []harness.O
	for n := range many {
		builder, provisioner := marked(harness.Direct, b.Dir, fmt.Sprintf("mark-%d", n))
		builders, provisioners = append(builders, builder), append(provisioners, provisioner)
	}
	template := b.Write("template.json", harness.ToJSON(harness.O{"builders": builders, "provisioners": provisioners}))
	b.Calls()
	b.Build(template)
	reads := 0
	for _, c := range b.Calls() {
		if c.Action == "GetSnapshotBlock" {
			reads++
		}
	}
	blocks, _ := filepath.Glob(filepath.Join(b.Dir, "cache", "s-*", "[0-9a-f]*"))
	if reads == 0 || reads > len(blocks) {
		t.Errorf("%d reads of %d blocks", reads, len(blocks))
	}
	allMarked(b, many)
}

// TestDirectCancelled: Ctrl-C in a provisioner, and while a block is uploaded, undoes everything.
func TestDirectCancelled(t *testing.T) {
	b := outside(t)
	before := b.Inventory()
	started := filepath.Join(b.Dir, "started")
	for name, at := range map[string]func(u *harness.Underway){
		"in a provisioner": func(u *harness.Underway) {
			u.Until(harness.Deadline, "at work", func() bool { return u.Inside() >= 2 })
		},
		"during the upload": func(u *harness.Underway) {
			var held []struct{ Action string }
			b.Control("GET", "held?wait=60s", nil, &held)
			if len(held) != 1 {
				t.Errorf("the build does not upload: %v\n%s", held, u.Out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := b.In(t)
			provisioner := harness.Shell("sleep 1000")
			if name == "during the upload" {
				b.Control("POST", "faults", harness.O{"action": "PutSnapshotBlock", "hold": "after", "times": 1}, nil)
				provisioner = harness.Shell("echo changed > /root/file")
			}
			u := b.Begin(harness.Direct, harness.O{"type": "shell-local", "inline": []string{"touch " + started}}, provisioner)
			at(u)
			b.Must(syscall.Kill(-u.Cmd.Process.Pid, syscall.SIGINT))
			if name == "during the upload" {
				time.Sleep(100 * time.Millisecond) // so that the interrupt arrives before the response
				b.GoOn()
			}
			if err := u.Cmd.Wait(); err == nil {
				t.Errorf("the build ended well:\n%s", u.Out)
			}
			b.Clean()
			b.Unchanged(before)
		})
	}
}

// TestDirectGrows: the disk can be larger than the source, and its root grows.
func TestDirectGrows(t *testing.T) {
	b := outside(t)
	b.Build(b.Template(harness.Direct.Basic(harness.O{"root_volume_size": 3, "grow_root_filesystem": true}),
		harness.Shell("df -k / | tail -n 1 | awk '{print $2}' > /root/size")))
	made := b.Made()
	size, err := strconv.Atoi(strings.TrimSpace(b.Content(b.Disk(made.ID), "/root/size")))
	if err != nil || size < 2<<20 {
		t.Errorf("the root has %d KiB, %v", size, err)
	}
	if gib := *b.Describe(made.ID).BlockDeviceMappings[0].Ebs.VolumeSize; gib != 3 {
		t.Errorf("the image has %d GiB", gib)
	}
}

// TestDirectDeviceInUse: a program of the host that keeps the device open fails the build, which does not wait for ever.
func TestDirectDeviceInUse(t *testing.T) {
	b := outside(t)
	b.Env = append(b.Env, "PACKER_CHROOT_PATIENCE=3s")
	before := b.Inventory()
	hold := filepath.Join(b.Dir, "hold")
	template := b.Template(harness.Direct.Basic(harness.O{
		"pre_unmount_commands": []string{"sh -c 'exec 9<{{.Device}}; touch " + hold + "; while [ -e " + hold + " ]; do sleep 0.2; done' >/dev/null 2>&1 </dev/null & sleep 0.5"},
	}))
	out, err := b.Packer("build", "-color=false", template)
	b.Must(os.Remove(hold))
	if err == nil || !strings.Contains(out, "in use") {
		t.Errorf("%v, and it does not say that the device is in use:\n%s", err, out)
	}
	for range 100 { // the holder ends
		if len(harness.ProcessesWith(b.Marker)) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if all, status := b.Reap(harness.Direct); status != 0 || len(all) != 1 || all[0].Fate != "removed" {
		t.Errorf("status %d, %+v", status, all)
	}
	b.Clean()
	b.Unchanged(before)
}
