package build

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// page is the page about containers.
type page struct {
	// files are the files of the image that a build uses.
	files []string
	// install is the command that installs the plugin in the image.
	install []string
	run     harness.Options
}

var (
	firstColumn = regexp.MustCompile("(?m)^\\| ((?:`/[^`]*`(?:, )?)+) \\|")
	quoted      = regexp.MustCompile("`([^`]*)`")
	installLine = regexp.MustCompile(`(?m)^RUN (packer plugins install .*)$`)
	dockerRun   = regexp.MustCompile("(?s)```\n(docker run .*?)```")
)

// readPage reads docs/container.md.
func readPage(t *testing.T) (p page) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(harness.Programs.Repo, "docs", "container.md"))
	harness.Must(t, err)
	image, _, _ := strings.Cut(string(raw), "## Running a build")
	for _, row := range firstColumn.FindAllStringSubmatch(image, -1) {
		for _, file := range quoted.FindAllStringSubmatch(row[1], -1) {
			p.files = append(p.files, file[1])
		}
	}
	install, run := installLine.FindStringSubmatch(image), dockerRun.FindStringSubmatch(string(raw))
	if install == nil || run == nil || len(p.files) == 0 {
		t.Fatal("docs/container.md lacks its files or its commands")
	}
	p.install = strings.Fields(install[1])
	p.run, err = harness.ParseDockerRun(run[1])
	harness.Must(t, err)
	return p
}

// container returns a container as the page describes it, with its image.
func container(b *harness.Box, p page) *harness.Container {
	b.Helper()
	c := &harness.Container{Box: b, Root: filepath.Join(b.Dir, "image"), Options: p.run, Sources: map[string]string{
		"/etc/machine-id": b.Write("machine-id", "0123456789abcdef0123456789abcdef\n"),
		"packer-state":    filepath.Join(b.Dir, "state"),
		"packer-cache":    filepath.Join(b.Dir, "cache"),
		"$PWD":            filepath.Join(b.Dir, "work"),
	}, Hidden: []string{"AWS_ENDPOINT_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "PACKER_BUILD_TEST"}}
	for _, dir := range []string{"cache", "work", "image/tmp", "image/var/tmp", "image/root", "image/mnt", "image/etc"} {
		b.Must(os.MkdirAll(filepath.Join(b.Dir, dir), 0o755))
	}
	ours := map[string]string{
		"/usr/local/bin/packer":                      harness.Programs.Packer,
		"/usr/local/bin/packer-plugin-amazon-chroot": harness.Programs.Plugin(harness.Direct),
	}
	for _, file := range p.files {
		switch program, ok := ours[file]; {
		case ok:
			c.Install(program, file)
		case file != "/etc/ssl/certs": // loopcloud has no certificate
			c.Install(file, file)
		}
	}
	if out, err := c.Build(p.install...); err != nil {
		b.Fatalf("%v: %v\n%s", p.install, err, out)
	}
	return c
}

// lazyDisks returns the names of the direct disks of the host's loop devices.
func lazyDisks() (names []string) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range files {
		if name := strings.TrimSpace(harness.Read(file)); strings.Contains(name, "lazydisk-") {
			names = append(names, name)
		}
	}
	return names
}

// contained is a container with its cloud and its template.
type contained struct {
	*harness.Container
	t *testing.T
}

// inContainer returns a container as docs/container.md describes it, on a machine that is no instance.
func inContainer(t *testing.T) contained {
	b := outside(t)
	return contained{container(b, readPage(t)), t}
}

// in returns the same container for a subtest.
func (c contained) in(t *testing.T) contained {
	own := *c.Container
	own.Box = c.In(t)
	return contained{&own, t}
}

// hcl writes the template that the page's command builds.
func (c contained) hcl(options, inline string) {
	c.Helper()
	c.Write("work/"+c.Args[len(c.Args)-1], `
source "amazon-chroot" "web" {
  ebs_direct = true
  source_ami = "ami-e81d5881"
  ami_name   = "contained"
  post_mount_commands  = ["device={{.Device}}; read disk < /sys/block/$${device##*/}/loop/backing_file; echo $disk > `+c.Workdir+`/disk; echo /dev/* > `+c.Workdir+`/during"]
  `+options+`
}
build {
  sources = ["source.amazon-chroot.web"]
  provisioner "shell" {
    inline = [`+inline+`]
  }
}
`)
}

// watched returns the page's command in a shell, which lists the container's nodes before and after it, and calls the
// commands between.
func (c contained) watched(between string) []string {
	return []string{"sh", "-c", fmt.Sprintf("echo /dev/* > %[1]s/before; %[2]s; status=$?; %[3]s echo /dev/* > %[1]s/after; exit $status",
		c.Workdir, strings.Join(c.Args, " "), between)}
}

// words returns the words in a file of the working directory.
func (c contained) words(name string) []string {
	return strings.Fields(harness.Read(filepath.Join(c.Dir, "work", name)))
}

// noDisk fails the test if the host has the disk of the last build, or nodes without a partition.
func (c contained) noDisk() {
	c.Helper()
	name := strings.Join(c.words("disk"), "")
	if name == "" {
		c.Error("the build had no disk")
	}
	harness.WaitFor(c.t, "the disk is gone", func() bool { return !slices.Contains(lazyDisks(), name) })
	if nodes, _ := filepath.Glob("/dev/loop*p*"); slices.ContainsFunc(nodes, noPartition) {
		harness.WaitFor(c.t, "each node of the host has its partition", func() bool {
			nodes, _ := filepath.Glob("/dev/loop*p*")
			return !slices.ContainsFunc(nodes, noPartition)
		})
	}
}

// noPartition reports whether the kernel has no partition with the name of a node.
func noPartition(node string) bool { return !harness.Exists("/sys/class/block/" + filepath.Base(node)) }

// wholeLoop matches the nodes that stay in the container, as the kernel's devices do.
var wholeLoop = regexp.MustCompile(`^/dev/loop[0-9]+$`)

// noNodes fails the test if the container had no node of a partition during the build, or has another one after it.
func (c contained) noNodes() {
	c.Helper()
	if during := c.words("during"); !slices.ContainsFunc(during, regexp.MustCompile(`^/dev/loop[0-9]+p1$`).MatchString) {
		c.Errorf("the container's /dev held %v", during)
	}
	before := c.words("before")
	for _, node := range c.words("after") {
		if !slices.Contains(before, node) && !wholeLoop.MatchString(node) {
			c.Errorf("left in the container's /dev: %s", node)
		}
	}
}

// run runs a program in the container. It must succeed.
func (c contained) run(args ...string) string {
	c.Helper()
	out, err := c.Exec(args...)
	if err != nil {
		c.Fatalf("%v: %v\n%s", args, err, out)
	}
	return out
}

// TestContainer builds an image in a container, with the files and the command of docs/container.md. Packer is the
// first process of the container, and a process that the provisioner leaves becomes its child.
func TestContainer(t *testing.T) {
	c := inContainer(t)
	c.hcl("", `"echo contained > /root/made", "(setsid sleep 1000 &)"`)
	c.run(c.Args...)
	disk := c.Disk(c.Made().ID)
	if got := c.Content(disk, "/root/made"); got != "contained\n" || !c.Has(disk, "/bin/busybox") {
		t.Errorf("the image's file holds %q", got)
	}
	c.noDisk()
	c.Clean()
}

// TestContainerGrows builds with a larger disk. No nodes stay in the container.
func TestContainerGrows(t *testing.T) {
	c := inContainer(t)
	c.hcl("root_volume_size = 2\ngrow_root_filesystem = true", `"df -k / | tail -n 1 | awk '{print $2}' > /root/size"`)
	c.run(c.watched("")...)
	size, err := strconv.Atoi(strings.TrimSpace(c.Content(c.Disk(c.Made().ID), "/root/size")))
	if err != nil || size < 1<<20 {
		t.Errorf("the root has %d KiB, %v", size, err)
	}
	c.noDisk()
	c.noNodes()
	c.Clean()
}

// TestContainerFromScratch runs the commands that the page recommends for a disk without partitions.
func TestContainerFromScratch(t *testing.T) {
	c := inContainer(t)
	for _, program := range []string{"/sbin/parted", "/sbin/mkfs.ext4", "/bin/cp"} {
		path, err := exec.LookPath(filepath.Base(program))
		c.Must(err)
		c.Install(path, program)
	}
	commands := regexp.MustCompile(`(?s)pre_mount_commands = \[.*?\n\]`).FindString(harness.Read(filepath.Join(harness.Programs.Repo, "docs", "container.md")))
	if commands == "" {
		t.Fatal("docs/container.md has no pre_mount_commands")
	}
	c.Must(harness.Run("cp", "-a", harness.Programs.Root, filepath.Join(c.Dir, "work", "root")))
	c.Write("work/"+c.Args[len(c.Args)-1], `
source "amazon-chroot" "web" {
  ebs_direct               = true
  from_scratch             = true
  ami_name                 = "contained"
  root_volume_size         = 1
  ami_virtualization_type  = "hvm"
  root_device_name         = "xvda"
  ami_block_device_mappings { device_name = "xvda" }
  `+commands+`
  post_mount_commands = ["cp -a `+c.Workdir+`/root/. {{.MountPath}}/"]
}
build {
  sources = ["source.amazon-chroot.web"]
  provisioner "shell" {
    inline = ["echo scratch > /root/made"]
  }
}
`)
	c.run(c.watched("")...)
	if got := c.Content(c.Disk(c.Made().ID), "/root/made"); got != "scratch\n" {
		t.Errorf("the image's file holds %q", got)
	}
	c.Clean()
}

// TestContainerLacks leaves out one option after the other. The error names it, and nothing is left.
func TestContainerLacks(t *testing.T) {
	c := inContainer(t)
	c.hcl("", `"true"`)
	before := c.Inventory()
	for name, test := range map[string]struct {
		without func(o *harness.Options)
		says    []string
	}{
		"fuse":         {func(o *harness.Options) { o.Devices = []string{"/dev/loop-control"} }, []string{"ebs_direct", "/dev/fuse", "c 10:229"}},
		"loop-control": {func(o *harness.Options) { o.Devices = []string{"/dev/fuse"} }, []string{"ebs_direct", "/dev/loop-control", "c 10:237"}},
		"loop devices": {func(o *harness.Options) { o.Rules = o.Rules[1:] }, []string{"/dev/loop", "operation not permitted", "the block devices 7:*"}},
		"partitions":   {func(o *harness.Options) { o.Rules = o.Rules[:1] }, []string{"/dev/loop", "p1", "operation not permitted", "the block devices 259:*"}},
		"MKNOD":        {func(o *harness.Options) { o.Dropped = []string{"MKNOD"} }, []string{"cannot create /dev/loop", "MKNOD"}},
		"SYS_ADMIN":    {func(o *harness.Options) { o.Capabilities = nil }, []string{"ebs_direct", "the capability SYS_ADMIN"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := c.in(t)
			test.without(&c.Options)
			out, err := c.Exec(c.Args...)
			if err == nil {
				t.Errorf("the build succeeded:\n%s", out)
			}
			for _, text := range test.says {
				if !strings.Contains(harness.Flat(out), text) {
					t.Errorf("the build does not say %q:\n%s", text, out)
				}
			}
			if early := name != "partitions"; early == strings.Contains(out, "Starting the snapshot") {
				t.Errorf("reported before anything is created: %v:\n%s", !early, out)
			}
			c.Unchanged(before)
			c.Clean()
		})
	}
}

// begin starts the page's command with a provisioner that does not end, and waits until it runs.
func (c contained) begin(args ...string) *harness.Contained {
	c.Helper()
	c.hcl("", `"(setsid sleep 1000 &)", "sleep 1001"`)
	p := c.Launch(args...)
	harness.WaitFor(c.t, "the provisioner runs", func() bool {
		return slices.ContainsFunc(harness.ProcessesWith(c.Marker), func(line string) bool { return strings.HasPrefix(line, "sleep 1001") })
	})
	return p
}

// TestContainerKilled kills all processes of a container. The kernel then removes the mounts and devices of its build, and
// reap in another container with the same volumes deletes the build's snapshot.
func TestContainerKilled(t *testing.T) {
	c := inContainer(t)
	before := c.Inventory()
	p := c.begin(c.Args...)
	alive := c.run("packer-plugin-amazon-chroot", "reap", "--json")
	if !strings.Contains(alive, `"living"`) {
		t.Errorf("the build that runs in another container is %s", alive)
	}
	p.Kill()
	_ = p.Wait()
	c.noDisk()
	if out := c.run("packer-plugin-amazon-chroot", "reap", "--json"); !strings.Contains(out, `"removed"`) {
		t.Errorf("reap says %s", out)
	}
	c.Unchanged(before)
	c.Clean()
}

// TestContainerStopped stops a container as docker stop does. The build undoes everything.
func TestContainerStopped(t *testing.T) {
	c := inContainer(t)
	before := c.Inventory()
	p := c.begin(c.Args...)
	p.Signal(syscall.SIGTERM)
	if err := p.Wait(); err == nil || !strings.Contains(harness.Flat(p.Out.String()), "undone: ") {
		t.Errorf("%v:\n%s", err, p.Out)
	}
	c.noDisk()
	c.Unchanged(before)
	c.Clean()
}

// TestContainerLosesBuild kills the plugin and its keeper in a container that goes on. reap removes everything, also the
// nodes of partitions.
func TestContainerLosesBuild(t *testing.T) {
	c := inContainer(t)
	before := c.Inventory()
	p := c.begin(c.watched("packer-plugin-amazon-chroot reap;")...)
	pids := slices.DeleteFunc(harness.PidsWith(c.Marker), func(pid int) bool {
		program, _, _ := strings.Cut(harness.Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
		return !strings.Contains(program, "packer-plugin-")
	})
	for _, signal := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, pid := range pids {
			_ = syscall.Kill(pid, signal)
		}
	}
	if err := p.Wait(); err == nil {
		t.Errorf("the build succeeded:\n%s", p.Out)
	}
	c.noDisk()
	c.noNodes()
	c.Unchanged(before)
	if t.Failed() {
		t.Log(p.Out)
	}
	c.Clean()
}

// called returns the image with a name.
func called(b *harness.Box, name string) string {
	b.Helper()
	images := b.Images()
	i := slices.IndexFunc(images, func(img harness.Image) bool { return img.Name == name })
	if i < 0 {
		b.Fatalf("there is no image %q", name)
	}
	return images[i].ID
}

// TestContainersTogether builds in several containers at a time, which share the loop devices of the host, the cache and
// the journals.
func TestContainersTogether(t *testing.T) {
	c := inContainer(t)
	const containers = 3
	var running [containers]*harness.Contained
	for n := range containers {
		own := c.in(t)
		own.Sources = maps.Clone(c.Sources)
		own.Sources["$PWD"] = filepath.Join(c.Dir, fmt.Sprintf("work-%d", n))
		c.Must(os.Mkdir(own.Sources["$PWD"], 0o755))
		c.hcl(fmt.Sprintf("tags = { number = %d }", n), fmt.Sprintf(`"echo %d > /root/number"`, n))
		template := c.Args[len(c.Args)-1]
		content := strings.Replace(harness.Read(filepath.Join(c.Dir, "work", template)), `"contained"`, fmt.Sprintf(`"contained %d"`, n), 1)
		c.Write(filepath.Join(fmt.Sprintf("work-%d", n), template), content)
		running[n] = own.Launch(own.Args...)
	}
	for _, p := range running {
		if err := p.Wait(); err != nil {
			t.Errorf("%v\n%s", err, p.Out)
		}
	}
	c.Clean()
	for n := range containers {
		if got := c.Content(c.Disk(called(c.Box, fmt.Sprintf("contained %d", n))), "/root/number"); got != fmt.Sprintln(n) {
			t.Errorf("image %d holds %q", n, got)
		}
	}
}
