package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// fakeHost is a host in a directory: nodes of one real device under any name.
type fakeHost struct {
	host
	t      *testing.T
	device unix.Stat_t
}

func newFakeHost(t *testing.T) *fakeHost {
	t.Helper()
	testroot.Need(t, "device nodes")
	dir := testdir.New(t)
	file := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).Output()
	if err != nil {
		t.Fatalf("losetup: %v", err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if err := exec.Command("losetup", "--detach", loop).Run(); err != nil {
			t.Errorf("losetup --detach: %v", err)
		}
	})
	h := &fakeHost{t: t, host: host{dev: filepath.Join(dir, "dev"), sys: filepath.Join(dir, "sys")}}
	if err := unix.Stat(loop, &h.device); err != nil {
		t.Fatal(err)
	}
	h.mkdir(h.dev)
	return h
}

func (h *fakeHost) mkdir(path string) {
	h.t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// node makes a device node.
func (h *fakeHost) node(name string) {
	h.t.Helper()
	if err := unix.Mknod(filepath.Join(h.dev, name), unix.S_IFBLK|0o600, int(h.device.Rdev)); err != nil {
		h.t.Fatal(err)
	}
}

// nvme makes an NVMe disk in sysfs.
func (h *fakeHost) nvme(name, serial string) {
	h.t.Helper()
	dir := filepath.Join(h.sys, "block", name, "device")
	h.mkdir(dir)
	if err := os.WriteFile(filepath.Join(dir, "serial"), []byte(serial+"   \n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// link makes udev's link.
func (h *fakeHost) link(name, target string) {
	h.t.Helper()
	h.mkdir(filepath.Join(h.dev, "disk/by-id"))
	if err := os.Symlink("../../"+target, filepath.Join(h.dev, "disk/by-id", name)); err != nil {
		h.t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	const (
		nvmeLink = "nvme-Amazon_Elastic_Block_Store_vol0123abcd"
		scsiLink = "scsi-0QEMU_QEMU_HARDDISK_sd"
	)
	tests := []struct {
		name   string
		device string
		build  func(h *fakeHost)
		want   string
	}{
		{"by serial number, whatever else is there", "/dev/sdf", func(h *fakeHost) {
			for _, n := range []string{"nvme0n1", "nvme1n1", "nvme2n1", "sdf", "xvdf"} {
				h.node(n)
			}
			h.nvme("nvme0n1", "vol0fff")
			h.nvme("nvme1n1", "AWS1234")
			h.nvme("nvme2n1", "vol0123abcd")
		}, "nvme2n1"},
		{"by the link", "/dev/sdf", func(h *fakeHost) {
			h.node("nvme1n1")
			h.link(nvmeLink, "nvme1n1")
		}, "nvme1n1"},
		{"not by a stale link", "/dev/sdf", func(h *fakeHost) {
			h.node("nvme1n1")
			h.nvme("nvme1n1", "vol0fff")
			h.link(nvmeLink, "nvme1n1")
		}, ""},
		{"not by a link to nothing", "/dev/sdf", func(h *fakeHost) { h.link(nvmeLink, "nvme1n1") }, ""},
		{"as Xen names it", "/dev/sdf", func(h *fakeHost) { h.node("xvdf") }, "xvdf"},
		{"as asked for", "/dev/sdf", func(h *fakeHost) { h.node("sdf") }, "sdf"},
		{"two letters", "/dev/xvdba", func(h *fakeHost) { h.node("xvdba"); h.node("xvdb") }, "xvdba"},
		{"a name without a directory", "xvdf", func(h *fakeHost) { h.node("xvdf") }, "xvdf"},
		{"by Outscale's link with the letter asked for", "/dev/xvdf", func(h *fakeHost) {
			h.node("sda")
			h.node("sdb")
			h.link(scsiLink+"a", "sda")
			h.link(scsiLink+"f", "sdb")
		}, "sdb"},
		{"by Outscale's link before the name itself", "/dev/sdb", func(h *fakeHost) {
			h.node("sdb")
			h.node("sdc")
			h.link(scsiLink+"b", "sdc")
		}, "sdc"},
		{"not by the serial number of another", "/dev/sdf", func(h *fakeHost) {
			h.node("nvme1n1")
			h.nvme("nvme1n1", "vol0123abcde")
		}, ""},
		{"no path tricks", "/dev/../xvdf/../../etc", func(*fakeHost) {}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHost(t)
			tt.build(h)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.want == "" {
				cancel()
			}
			got, err := h.find(ctx, Query{Volume: "vol-0123abcd", Device: tt.device})
			if tt.want == "" {
				if got != "" || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "vol-0123abcd") {
					t.Errorf("got %q, %v; want an error that names the volume", got, err)
				}
			} else if want := filepath.Join(h.dev, tt.want); got != want {
				t.Errorf("got %q, %v; want %s", got, err, want)
			}
		})
	}
}

// disk makes a disk in sysfs of this many bytes.
func (h *fakeHost) disk(name string, bytes int64) {
	h.t.Helper()
	h.tell(name, "size", strconv.FormatInt(bytes/512, 10)+"\n")
}

// tell writes the kernel's files about a disk into a copy of sysfs.
func (h *fakeHost) tell(name, what, told string) {
	h.t.Helper()
	path := filepath.Join(h.sys, "block", name, what)
	h.mkdir(filepath.Dir(path))
	if err := os.WriteFile(path, []byte(told), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// scsi creates a disk of QEMU that was requested under a name.
func (h *fakeHost) scsi(name, asked string) {
	h.t.Helper()
	h.tell(name, "device/vendor", "QEMU    \n")
	h.tell(name, "device/vpd_pg83", "\x00\x83\x00"+string(rune(4+len(asked)))+"\x02\x00\x00"+string(rune(len(asked)))+asked)
}

// TestFindNotAnother has the names refer to disks that cannot be the volume's.
func TestFindNotAnother(t *testing.T) {
	const gib, link = 1 << 30, "scsi-0QEMU_QEMU_HARDDISK_sdf"
	known := Seen{"sdb": "17"}
	tests := []struct {
		name  string
		build func(h *fakeHost)
		want  string // a node, or a part of the error
	}{
		{"one that was there before, by a link", func(h *fakeHost) {
			h.link(link, "sdb")
			h.disk("sdb", gib)
			h.tell("sdb", "diskseq", "17\n")
		}, "sdb, which was there before the attachment"},
		{"a new one of that name", func(h *fakeHost) {
			h.link(link, "sdb")
			h.disk("sdb", gib)
			h.tell("sdb", "diskseq", "18\n")
		}, ""},
		{"one that was there before, and then the one", func(h *fakeHost) {
			h.link(link, "sdb")
			h.disk("sdb", gib)
			h.tell("sdb", "diskseq", "17\n")
			h.disk("xvdf", gib)
			h.tell("xvdf", "diskseq", "18\n")
			h.node("xvdf")
		}, ""},
		{"of another size", func(h *fakeHost) { h.link(link, "sdb"); h.disk("sdb", 2*gib) }, "sdb, which has 2147483648 bytes, and the volume has 1073741824"},
		{"asked for under another name", func(h *fakeHost) { h.node("sdf"); h.scsi("sdf", "sdc") }, "sdf, which was asked for as sdc"},
		{"asked for under another name, and the one beside it", func(h *fakeHost) {
			h.node("sdf")
			h.scsi("sdf", "sdb")
			h.scsi("sdb", "sdf")
		}, ""},
		{"before udev has made the link", func(h *fakeHost) { h.scsi("sdb", "sdf") }, ""},
		{"by the serial number's page", func(h *fakeHost) {
			h.tell("sdb", "device/vendor", "QEMU    \n")
			h.tell("sdb", "device/vpd_pg80", "\x00\x80\x00\x04sdf ")
		}, ""},
		{"of another maker", func(h *fakeHost) { h.scsi("sdb", "sdf"); h.tell("sdb", "device/vendor", "ATA     \n") }, "sdf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHost(t)
			h.node("sdb")
			tt.build(h)
			found, lacks := h.once(Query{Volume: "vol-1", Device: "/dev/xvdf", Bytes: gib, Before: known}, h.candidates(Query{Device: "/dev/xvdf"}))
			switch all := strings.Join(lacks, ", "); {
			case tt.want == "" && found == "":
				t.Errorf("it is not found: %s", all)
			case tt.want != "" && (found != "" || !strings.Contains(all, tt.want)):
				t.Errorf("found %q: %s; want none, for %q", found, all, tt.want)
			}
		})
	}
}

// TestDisksOfThisMachine lists the disks of this machine, with the values that distinguish them.
func TestDisksOfThisMachine(t *testing.T) {
	h := newFakeHost(t)
	loop := fmt.Sprintf("loop%d", unix.Minor(h.device.Rdev))
	before := Disks()
	if _, there := before[loop]; !there || here.kernelName("/dev/"+loop) != loop {
		t.Fatalf("%s is not among %v", loop, before)
	}
	file := filepath.Join(testdir.New(t), "another")
	if err := errors.Join(os.WriteFile(file, make([]byte, 1<<20), 0o600), exec.Command("losetup", "--detach", "/dev/"+loop).Run()); err != nil {
		t.Fatal(err)
	}
	var out []byte
	var err error
	for range 100 { // the kernel detaches it a moment later
		if out, err = exec.Command("losetup", "/dev/"+loop, file).CombinedOutput(); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatalf("losetup: %v\n%s", err, out)
	}
	if after := Disks(); after[loop] == before[loop] && before[loop] != "" {
		t.Errorf("%s is another disk now, and counts as the same: %q", loop, after[loop])
	}
	// A kernel that does not count, with a real disk.
	h.disk("xvdk", 1<<30)
	was := h.identity("xvdk")
	if err := os.Rename(filepath.Join(h.sys, "block/xvdk"), filepath.Join(h.sys, "gone")); err != nil {
		t.Fatal(err)
	}
	h.disk("xvdk", 1<<30)
	if is := h.identity("xvdk"); was == "" || is == was {
		t.Errorf("another xvdk is %q, as the one before was (%q)", is, was)
	}
}

func FuzzIdentification(f *testing.F) {
	f.Add([]byte("\x00\x83\x00\x07\x02\x00\x00\x03sdf"), []byte("\x00\x80\x00\x03sdf"))
	f.Add([]byte("\x00\x83\xff\xff\x61\x03\x00\x08naanaana\x02\x00\x00\x03sdf"), []byte(nil))
	f.Fuzz(func(t *testing.T, page83, page80 []byte) {
		said := identificationOf(page83, page80)
		if said != "" && !bytes.Contains(page83, []byte(said)) && !bytes.Contains(page80, []byte(said)) {
			t.Errorf("%q is in no page", said)
		}
		if l := lettersOf(said); len(l) > 2 {
			t.Errorf("letters %q", l)
		}
	})
}

// TestFindLastResort has a kernel name the disk otherwise than requested.
func TestFindLastResort(t *testing.T) {
	const gib = 1 << 30
	tests := []struct {
		name  string
		query Query
		build func(h *fakeHost)
		want  string
	}{
		{"the only new one", Query{Bytes: 8 * gib, Before: Seen{"xvda": ""}}, func(h *fakeHost) { h.disk("xvdk", 8*gib) }, "xvdk"},
		{"the only one of its size", Query{Bytes: 8 * gib, Before: Seen{"xvda": ""}}, func(h *fakeHost) { h.disk("xvdj", 9*gib); h.disk("xvdk", 8*gib) }, "xvdk"},
		{"two of its size", Query{Bytes: 8 * gib, Before: Seen{"xvda": ""}}, func(h *fakeHost) { h.disk("xvdj", 8*gib); h.disk("xvdk", 8*gib) }, ""},
		{"another size", Query{Bytes: 8 * gib, Before: Seen{"xvda": ""}}, func(h *fakeHost) { h.disk("xvdk", 9*gib) }, ""},
		{"nothing new", Query{Bytes: 8 * gib, Before: Seen{"xvda": "", "xvdk": ""}}, func(h *fakeHost) { h.disk("xvdk", 8*gib) }, ""},
		{"nobody knows what was there", Query{Bytes: 8 * gib}, func(h *fakeHost) { h.disk("xvdk", 8*gib) }, ""},
		{"of another volume", Query{Bytes: 8 * gib, Before: Seen{"xvda": ""}}, func(h *fakeHost) { h.disk("nvme1n1", 8*gib); h.nvme("nvme1n1", "vol0fff") }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newFakeHost(t)
			h.disk("xvda", 8*gib)
			for _, n := range []string{"xvda", "xvdj", "xvdk", "nvme1n1"} {
				h.node(n)
			}
			tt.build(h)
			tt.query.Volume, tt.query.Device = "vol-0123abcd", "/dev/sdf"
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.want == "" {
				cancel()
			}
			got, err := h.find(ctx, tt.query)
			want := ""
			if tt.want != "" {
				want = filepath.Join(h.dev, tt.want)
			}
			if got != want || (err != nil) != (want == "") {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

// TestFindAsksTheController has sysfs and the controllers disagree.
func TestFindAsksTheController(t *testing.T) {
	h := newFakeHost(t)
	for _, n := range []string{"nvme0n1", "nvme1n1", "nvme2n1"} {
		h.node(n)
	}
	h.nvme("nvme0n1", "vol0123abcd") // sysfs is wrong
	h.nvme("nvme1n1", "vol0fff")
	h.nvme("nvme2n1", "") // sysfs does not say
	says := map[string]Controller{
		"nvme0n1": {Vendor: VendorAmazon, Serial: "vol0eee"},
		"nvme1n1": {Vendor: VendorAmazon, Serial: "vol0fff", Requested: "sdg"},
		"nvme2n1": {Vendor: VendorAmazon, Serial: "vol0123abcd", Requested: "sdf"},
	}
	h.identify = func(node string) (Controller, error) {
		c, ok := says[filepath.Base(node)]
		if !ok {
			return c, errors.New("not an NVMe disk")
		}
		return c, nil
	}
	if got, err := h.find(t.Context(), Query{Volume: "vol-0123abcd", Device: "/dev/sdf"}); err != nil || got != filepath.Join(h.dev, "nvme2n1") {
		t.Errorf("got %q, %v; want nvme2n1", got, err)
	}
	h.link("nvme-Amazon_Elastic_Block_Store_vol0ddd", "nvme1n1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.find(ctx, Query{Volume: "vol-0ddd", Device: "/dev/sdf"})
	if err == nil || !strings.Contains(err.Error(), "the device of vol0fff, which was asked for as sdg") {
		t.Errorf("error %v; want whose device the link leads to", err)
	}
}

func TestParseController(t *testing.T) {
	raw := make([]byte, 4096)
	copy(raw, "\x0f\x1d\x0f\x1dvol0123abcd         Amazon Elastic Block Store              ")
	copy(raw[3072:], "/dev/sdf                        ")
	got, err := ParseController(raw)
	want := Controller{Vendor: VendorAmazon, Serial: "vol0123abcd", Model: "Amazon Elastic Block Store", Requested: "/dev/sdf"}
	if err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	raw[0] = 0x36
	if got, _ := ParseController(raw); got.Requested != "" {
		t.Errorf("the field of another vendor is taken for a name: %+v", got)
	}
	if _, err := ParseController(raw[:4095]); err == nil {
		t.Error("a short answer is read")
	}
}

func FuzzParseController(f *testing.F) {
	f.Add([]byte("\x0f\x1d\x0f\x1dvol0123"), []byte("sdf"))
	f.Fuzz(func(t *testing.T, head, name []byte) {
		raw := make([]byte, 4096)
		copy(raw, head)
		copy(raw[3072:], name)
		c, err := ParseController(raw)
		if err != nil || len(c.Serial) > 20 || len(c.Model) > 40 || len(c.Requested) > 32 {
			t.Errorf("%+v, %v", c, err)
		}
	})
}

func TestIdentifyOtherDevice(t *testing.T) {
	h := newFakeHost(t)
	h.node("nvme0n1")
	node := filepath.Join(h.dev, "nvme0n1")
	if c, err := Identify(node); err == nil || !strings.Contains(err.Error(), node) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFindWaits(t *testing.T) {
	h := newFakeHost(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	found := make(chan string)
	go func() {
		path, err := h.find(ctx, Query{Volume: "vol-1", Device: "/dev/sdf"})
		if err != nil {
			t.Error(err)
		}
		found <- path
	}()
	time.Sleep(10 * time.Millisecond)
	h.node("xvdf")
	if got, want := <-found, filepath.Join(h.dev, "xvdf"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
