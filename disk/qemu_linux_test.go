package disk_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu"
)

// TestQEMU finds disks of a real NVMe driver: a virtual machine with Debian's
// kernel, to which NVMe disks are attached while it runs, in another order than
// that in which they are asked for. Their serial numbers are as EBS has them.
//
// What it cannot show: QEMU's controllers have a vendor id of their own (1b36, not
// Amazon's 1d0f), and nothing in the bytes that are left to the vendor. So the
// serial number is proved, by sysfs and by the ioctl, and not the requested name.
//
// PACKER_CHROOT_KERNEL names the kernel; make qemu gets one and sets it.
func TestQEMU(t *testing.T) {
	kernel := os.Getenv("PACKER_CHROOT_KERNEL")
	if kernel == "" {
		t.Skip("PACKER_CHROOT_KERNEL is not set: make qemu sets it")
	}
	volumes := []string{"vol-0123456789abcdef0", "vol-0fedcba9876543210", "vol-0aaaaaaaaaaaaaaaa"}
	dir := t.TempDir()
	m := boot(t, dir, kernel, initramfs(t, dir, volumes), volumes)
	for line := range m.lines {
		if strings.Contains(line, "guest: ready") {
			break
		}
	}
	for i := len(volumes) - 1; i >= 0; i-- {
		m.attach(volumes[i])
	}
	found, nodes := map[string]string{}, map[string]bool{}
	for line := range m.lines {
		_, line, ok := strings.Cut(line, "guest: ")
		if line == "done" {
			break
		}
		if volume, what, is := strings.Cut(line, ": "); ok && is {
			found[volume] = what
			nodes[strings.Fields(what)[0]] = true
		}
	}
	for _, volume := range volumes {
		want := fmt.Sprintf("serial=%s vendor=1b36 begins=%s", strings.Replace(volume, "-", "", 1), volume)
		if got := found[volume]; !strings.HasPrefix(got, "/dev/nvme") || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %q; want a disk with %q", volume, got, want)
		}
	}
	if len(nodes) != len(volumes) {
		t.Errorf("the volumes have the nodes %v", nodes)
	}
	if t.Failed() {
		t.Logf("the machine said:\n%s", m.said.String())
	}
}

// initramfs is a root of busybox and the guest, which is built as it is now.
func initramfs(t *testing.T, dir string, volumes []string) string {
	t.Helper()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"bin", "dev", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(root, "guest"), "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	run(t, "", "cp", busybox, filepath.Join(root, "bin/busybox"))
	init := "#!/bin/busybox sh\n" +
		"/bin/busybox mount -t devtmpfs dev /dev\n" +
		"/bin/busybox mount -t proc proc /proc\n" +
		"/bin/busybox mount -t sysfs sys /sys\n" +
		"/guest " + strings.Join(volumes, " ") + "\n" +
		"/bin/busybox poweroff -f\n"
	if err := os.WriteFile(filepath.Join(root, "init"), []byte(init), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "", "sh", "-c", "cd "+root+" && find . | busybox cpio -o -H newc > ../initramfs")
	return filepath.Join(dir, "initramfs")
}

// machine is a virtual machine that runs.
type machine struct {
	t     *testing.T
	lines chan string
	said  *strings.Builder
	qmp   *json.Encoder
	reply *json.Decoder
}

// boot starts a machine, with KVM where that runs guests. Every volume is a file that
// begins with its id, and is attached nowhere yet.
func boot(t *testing.T, dir, kernel, initrd string, volumes []string) *machine {
	t.Helper()
	accelerator, why, err := qemu.Auto.Accelerator(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the machine runs by %s %s", accelerator, why)
	socket := filepath.Join(dir, "qmp")
	args := []string{
		"-nodefaults", "-no-reboot", "-display", "none", "-m", "512", "-machine", "pc,accel=" + accelerator, "-cpu", "max",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 quiet",
		"-serial", "stdio", "-qmp", "unix:" + socket + ",server=on,wait=off",
	}
	for _, volume := range volumes {
		file := filepath.Join(dir, volume)
		if err := os.WriteFile(file, append([]byte(volume), make([]byte, mib)...)[:mib], 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-blockdev", "driver=raw,node-name="+volume+",file.driver=file,file.filename="+file)
	}
	cmd := exec.CommandContext(t.Context(), "qemu-system-x86_64", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, lines: make(chan string), said: &strings.Builder{}}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (Debian's package is qemu-system-x86)", err)
	}
	limit := time.AfterFunc(3*time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		limit.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	go m.listen(out)
	m.connect(socket)
	return m
}

// listen passes on the lines of the console.
func (m *machine) listen(console io.Reader) {
	defer close(m.lines)
	for scan := bufio.NewScanner(console); scan.Scan(); {
		line := strings.TrimSpace(scan.Text())
		m.said.WriteString(line + "\n")
		m.lines <- line
	}
}

// connect speaks to the machine's monitor.
func (m *machine) connect(socket string) {
	m.t.Helper()
	var conn net.Conn
	var err error
	for range 100 {
		if conn, err = net.Dial("unix", socket); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { conn.Close() })
	m.qmp, m.reply = json.NewEncoder(conn), json.NewDecoder(conn)
	m.execute("qmp_capabilities", nil)
}

// execute has the monitor do something.
func (m *machine) execute(command string, arguments map[string]any) {
	m.t.Helper()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := m.qmp.Encode(request); err != nil {
		m.t.Fatal(err)
	}
	for {
		var reply map[string]any
		if err := m.reply.Decode(&reply); err != nil {
			m.t.Fatal(err)
		}
		if reply["error"] != nil {
			m.t.Fatalf("%s: %v", command, reply["error"])
		}
		if _, done := reply["return"]; done {
			return // others are the greeting and events
		}
	}
}

// attach plugs a disk in.
func (m *machine) attach(volume string) {
	m.t.Helper()
	serial := strings.Replace(volume, "-", "", 1)
	m.execute("device_add", map[string]any{"driver": "nvme", "id": serial, "drive": volume, "serial": serial})
}
