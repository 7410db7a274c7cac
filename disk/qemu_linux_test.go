package disk_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu/qemutest"
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
	kernel := qemutest.Kernel(t)
	volumes := []string{"vol-0123456789abcdef0", "vol-0fedcba9876543210", "vol-0aaaaaaaaaaaaaaaa"}
	m := boot(t, kernel, volumes)
	for line := range m.Lines {
		if strings.Contains(line, "guest: ready") {
			break
		}
	}
	for i := len(volumes) - 1; i >= 0; i-- {
		m.attach(volumes[i])
	}
	found, nodes := map[string]string{}, map[string]bool{}
	for line := range m.Lines {
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
		t.Logf("the machine said:\n%s", m.Said())
	}
}

// machine is a virtual machine that runs.
type machine struct {
	*qemutest.Running
	t     *testing.T
	qmp   *json.Encoder
	reply *json.Decoder
}

// boot starts a machine with the guest, which is built as it is now. Every volume is a
// file that begins with its id, and is attached nowhere yet.
func boot(t *testing.T, kernel string, volumes []string) *machine {
	t.Helper()
	dir := t.TempDir()
	root := qemutest.NewRoot(t, "/guest "+strings.Join(volumes, " "))
	root.Go(t, "guest", "build", "./testdata/guest")
	socket := filepath.Join(dir, "qmp")
	args := []string{"-qmp", "unix:" + socket + ",server=on,wait=off"}
	for _, volume := range volumes {
		file := filepath.Join(dir, volume)
		if err := os.WriteFile(file, append([]byte(volume), make([]byte, mib)...)[:mib], 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-blockdev", "driver=raw,node-name="+volume+",file.driver=file,file.filename="+file)
	}
	running := qemutest.Machine{Kernel: kernel, Initramfs: root.Pack(t), MemoryMiB: 512, Args: args, Limit: 3 * time.Minute}.Boot(t)
	m := &machine{t: t, Running: running}
	m.connect(socket)
	return m
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
