package disk_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/qemu/qemutest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestQEMU finds disks of a real NVMe driver: a virtual machine with Debian's
// kernel, to which NVMe disks are attached while it runs, in another order than
// that in which they are asked for. Their serial numbers are as EBS has them.
//
// It cannot show the requested name: QEMU's controllers have a vendor id of their own (1b36,
// not Amazon's 1d0f), and nothing in the bytes that are left to the vendor. So the
// serial number is proved, by sysfs and by the ioctl, and not the requested name.
//
// PACKER_CHROOT_KERNEL names the kernel; make qemu gets one and sets it.
func TestQEMU(t *testing.T) {
	kernel := qemutest.Kernel(t)
	volumes := []string{"vol-0123456789abcdef0", "vol-0fedcba9876543210", "vol-0aaaaaaaaaaaaaaaa"}
	m := boot(t, kernel, qemutest.NewRoot(t, "/guest "+strings.Join(volumes, " ")), volumes)
	for _, volume := range slices.Backward(volumes) {
		serial := strings.Replace(volume, "-", "", 1)
		m.attach(map[string]any{"driver": "nvme", "id": serial, "drive": volume, "serial": serial})
	}
	nodes := map[string]bool{}
	for volume, found := range m.found(len(volumes)) {
		want := fmt.Sprintf("serial=%s vendor=1b36 begins=%s", strings.Replace(volume, "-", "", 1), volume)
		if !strings.HasPrefix(found, "/dev/nvme") || !strings.HasSuffix(found, want) {
			t.Errorf("%s: %q; want a disk with %q", volume, found, want)
		}
		nodes[strings.Fields(found)[0]] = true
	}
	if len(nodes) != len(volumes) {
		t.Errorf("the volumes have the nodes %v", nodes)
	}
}

// TestQEMUSCSI finds SCSI disks by the name that they report, as on Outscale: there is no udev
// to create links, and the kernel gives the second disk the name that is requested for the
// third.
func TestQEMUSCSI(t *testing.T) {
	kernel := qemutest.Kernel(t)
	asked := map[string]string{"vol-00000001": "sdc", "vol-00000002": "sdd", "vol-00000003": "sdb"}
	volumes := slices.Sorted(maps.Keys(asked))
	want := map[string]string{}
	var init strings.Builder
	for _, module := range scsi {
		fmt.Fprintf(&init, "insmod /%s.ko\n", path.Base(module))
	}
	init.WriteString("/guest")
	for i, volume := range volumes {
		fmt.Fprintf(&init, " %s=/dev/xvd%s", volume, strings.TrimPrefix(asked[volume], "sd"))
		want[volume] = fmt.Sprintf("/dev/sd%c begins=%s", 'a'+i, volume)
	}
	root := qemutest.NewRoot(t, init.String())
	for _, module := range scsi {
		qemutest.Run(t, "cp", qemutest.Module(t, kernel, module), root.Path(path.Base(module)+".ko"))
	}
	m := boot(t, kernel, root, volumes, "-device", "virtio-scsi-pci")
	found := map[string]string{}
	for _, volume := range volumes { // one by one: the kernel names several in any order
		m.attach(map[string]any{"driver": "scsi-hd", "id": asked[volume], "drive": volume, "serial": asked[volume]})
		maps.Copy(found, m.found(1))
	}
	if !maps.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// scsi are the modules of a kernel for disks of virtio's SCSI controller, in the order in
// which they need each other.
var scsi = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci",
	"drivers/scsi/scsi_common", "drivers/scsi/scsi_mod", "drivers/scsi/sd_mod", "drivers/scsi/virtio_scsi",
}

// machine is a virtual machine that runs.
type machine struct {
	*qemutest.Running
	t     *testing.T
	qmp   *json.Encoder
	reply *json.Decoder
}

// boot starts a machine with the guest, which is built as it is now, until that is ready.
// Every volume is a file that begins with its id, and is attached nowhere yet.
func boot(t *testing.T, kernel string, root qemutest.Root, volumes []string, args ...string) *machine {
	t.Helper()
	dir := testdir.New(t)
	root.Go(t, "guest", "build", "./testdata/guest")
	socket := filepath.Join(dir, "qmp")
	args = append(args, "-qmp", "unix:"+socket+",server=on,wait=off")
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
	for line := range m.Lines {
		if strings.Contains(line, "guest: ready") {
			break
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the machine said:\n%s", m.Said())
		}
	})
	return m
}

// found returns the guest's next lines, for a number of volumes.
func (m *machine) found(n int) map[string]string {
	found := map[string]string{}
	for len(found) < n {
		line, more := <-m.Lines
		if !more {
			break
		}
		_, said, _ := strings.Cut(line, "guest: ")
		if volume, what, is := strings.Cut(said, ": "); is {
			found[volume] = what
		}
	}
	return found
}

// connect connects to the machine's monitor.
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
func (m *machine) attach(device map[string]any) {
	m.t.Helper()
	m.execute("device_add", device)
}
