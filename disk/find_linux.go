package disk

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Find waits for the device of an attached volume and returns its node: the kernel seldom
// gives a device the name that the cloud was asked for. The wait ends with ctx.
//
// In this order it uses: the serial number of an NVMe disk, which on EC2 is the volume's
// id; udev's link of that name, if the kernel does not have the serial number; on
// Outscale the requested name, as the disk itself reports it, or udev's link with its
// letter; the requested name, as Xen uses it (xvdf for sdf) and as it is. If none of them
// has appeared for a while, it returns the only disk that is new since before the
// attachment: some kernels give disks other names.
//
// A disk is not the volume's if it existed before the attachment, has another size, or
// reports that it is another volume's or was requested under another name. Its path does
// not count: links can be stale, and the kernel gives the name that one build has
// requested to the disk of another.
//
// https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
func Find(ctx context.Context, q Query) (string, error) {
	return here.find(ctx, q)
}

// Disks returns the disks of this host, including virtual ones such as loop devices.
func Disks() Seen { return here.seen() }

// host has the directories of the nodes, of sysfs and of udevd's files, the function that
// identifies NVMe disks, and how long the last resort waits.
type host struct {
	dev, sys   string
	run        string
	identify   func(node string) (Controller, error)
	lastResort time.Duration
}

// here is this host. lastResort is more than a name takes to appear after its disk.
var here = host{dev: "/dev", sys: "/sys", run: "/run", identify: Identify, lastResort: 10 * time.Second}

func (h host) find(ctx context.Context, q Query) (string, error) {
	candidates := h.candidates(q)
	var found string
	var lacks []string
	begun := time.Now()
	err := await(ctx, append(dirs(candidates), h.dev), func() bool {
		found, lacks = h.once(q, candidates)
		if found == "" && time.Since(begun) >= h.lastResort {
			found = h.appeared(q)
		}
		return found != ""
	})
	if err != nil {
		return "", fmt.Errorf("no device for %s: %s: %w", q.Volume, strings.Join(lacks, ", "), err)
	}
	return found, nil
}

// once searches once. A disk with the volume's serial number is found even if its node
// does not exist yet.
func (h host) once(q Query, candidates []string) (found string, lacks []string) {
	if node := h.bySerial(q.Volume); node != "" {
		return firstDevice([]string{node})
	}
	found, lacks = h.firstOf(q, append(h.askedFor(q.Device), candidates...))
	return found, append([]string{"no NVMe disk has its serial number"}, lacks...)
}

// askedFor returns the nodes of the SCSI disks that report a requested name.
func (h host) askedFor(device string) (nodes []string) {
	letters := lettersOf(filepath.Base(device))
	if letters == "" {
		return nil
	}
	disks, _ := filepath.Glob(filepath.Join(h.sys, "block", "sd*"))
	for _, d := range disks {
		if name := filepath.Base(d); h.lettersFor(name) == letters {
			nodes = append(nodes, filepath.Join(h.dev, name))
		}
	}
	return nodes
}

// lettersFor returns the letters of the requested name that a SCSI disk reports. They are
// empty if it reports none, such as a disk that is not QEMU's.
func (h host) lettersFor(name string) string {
	device := filepath.Join(h.sys, "block", name, "device")
	vendor, _ := os.ReadFile(filepath.Join(device, "vendor"))
	if trimmed(bytes.TrimSpace(vendor)) != "QEMU" {
		return ""
	}
	page83, _ := os.ReadFile(filepath.Join(device, "vpd_pg83"))
	page80, _ := os.ReadFile(filepath.Join(device, "vpd_pg80"))
	return lettersOf(identificationOf(page83, page80))
}

// candidates returns the paths that can be the volume's, the best first.
func (h host) candidates(q Query) []string {
	var paths []string
	if q.Volume != "" {
		paths = append(paths, filepath.Join(h.dev, "disk/by-id", "nvme-Amazon_Elastic_Block_Store_"+serial(q.Volume)))
	}
	if letters := lettersOf(filepath.Base(q.Device)); letters != "" {
		paths = append(paths,
			filepath.Join(h.dev, "disk/by-id", "scsi-0QEMU_QEMU_HARDDISK_sd"+letters),
			filepath.Join(h.dev, "xvd"+letters),
			filepath.Join(h.dev, "sd"+letters))
	}
	return paths
}

// serial returns a volume's id as the serial number of its disk on EC2.
func serial(volume string) string { return strings.Replace(volume, "-", "", 1) }

// bySerial returns the node of the NVMe disk whose serial number is the volume's.
func (h host) bySerial(volume string) string {
	if volume == "" {
		return ""
	}
	disks, _ := filepath.Glob(filepath.Join(h.sys, "block", "nvme*"))
	for _, d := range disks {
		if s, ok := h.serialOf(filepath.Base(d)); ok && s == serial(volume) {
			if node := filepath.Join(h.dev, filepath.Base(d)); h.confirmed(node, s) {
				return node
			}
		}
	}
	return ""
}

// serialOf returns a disk's serial number, if it has one. If sysfs does not have it, the
// controller is asked.
func (h host) serialOf(name string) (string, bool) {
	raw, err := os.ReadFile(filepath.Join(h.sys, "block", name, "device", "serial"))
	s := strings.TrimSpace(string(raw))
	if (err != nil || s == "") && strings.HasPrefix(name, "nvme") && h.identify != nil {
		if c, err := h.identify(filepath.Join(h.dev, name)); err == nil && c.Vendor == VendorAmazon {
			s = c.Serial
		}
	}
	return s, s != ""
}

// confirmed reports whether the controller itself has the serial number; sysfs keeps that
// from the time at which the disk appeared. It returns true if the controller cannot be
// asked.
func (h host) confirmed(node, serial string) bool {
	if h.identify == nil {
		return true
	}
	c, err := h.identify(node)
	return err != nil || c.Serial == serial
}

// disks returns the names in sysfs, in its order.
func (h host) disks() []string {
	entries, _ := filepath.Glob(filepath.Join(h.sys, "block", "*"))
	for i, e := range entries {
		entries[i] = filepath.Base(e)
	}
	return entries
}

// isVirtual reports whether a disk is only software. NVMe disks with several paths look
// like that too, and are disks all the same.
func (h host) isVirtual(name string) bool {
	target, err := filepath.EvalSymlinks(filepath.Join(h.sys, "block", name))
	return err != nil || strings.Contains(target, "/devices/virtual/") && !strings.HasPrefix(name, "nvme")
}

func (h host) seen() Seen {
	seen := Seen{}
	for _, name := range h.disks() {
		seen[name] = h.identity(name)
	}
	return seen
}

// identity returns a value that distinguishes a disk from a later one with its name.
// Linux 5.15 counts disks. Before that, the directory of a real disk in sysfs is a new
// one for every disk, and that of a virtual disk stays.
func (h host) identity(name string) string {
	dir := filepath.Join(h.sys, "block", name)
	if count, err := os.ReadFile(filepath.Join(dir, "diskseq")); err == nil {
		return strings.TrimSpace(string(count))
	}
	var st unix.Stat_t
	if h.isVirtual(name) || unix.Stat(dir, &st) != nil {
		return ""
	}
	return fmt.Sprintf("directory %d", st.Ino)
}

// appeared returns the node of the only real disk that is new and has the volume's size.
func (h host) appeared(q Query) string {
	if q.Before == nil || q.Bytes == 0 {
		return ""
	}
	var fit []string
	for _, name := range h.disks() {
		was, there := q.Before[name]
		if h.isVirtual(name) || there && (was == "" || was == h.identity(name)) || h.bytes(name) != q.Bytes {
			continue
		}
		if node, err := h.verify(q, filepath.Join(h.dev, name)); err == nil && isDevice(node) == nil {
			fit = append(fit, node)
		}
	}
	if len(fit) != 1 {
		return ""
	}
	return fit[0]
}

// bytes returns a disk's size, which sysfs has in units of 512 bytes; 0 if it is not
// there.
func (h host) bytes(name string) int64 {
	raw, _ := os.ReadFile(filepath.Join(h.sys, "block", name, "size"))
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	if err != nil {
		return 0
	}
	return n * 512
}

// firstOf returns the first candidate that is a device and not known to be another
// volume's, with links resolved.
func (h host) firstOf(q Query, candidates []string) (found string, lacks []string) {
	for _, c := range candidates {
		err := isDevice(c)
		if err == nil {
			found, err = h.verify(q, c)
		}
		if err == nil {
			return found, nil
		}
		lacks = append(lacks, fmt.Sprintf("%s (%v)", c, err))
	}
	return "", lacks
}

// verify resolves a candidate. It returns an error if that cannot be the volume's.
func (h host) verify(q Query, path string) (string, error) {
	node, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", reason(err)
	}
	name := h.kernelName(node)
	if s, ok := h.serialOf(name); ok && q.Volume != "" && strings.HasPrefix(s, "vol") {
		if s != serial(q.Volume) {
			return "", fmt.Errorf("it is %s, the device of %s%s", node, s, h.requested(node))
		}
		return node, nil
	}
	asked, says := lettersOf(filepath.Base(q.Device)), h.lettersFor(name)
	if says != "" && says != asked {
		return "", fmt.Errorf("it is %s, which was asked for as sd%s", node, says)
	}
	if was := q.Before[name]; was != "" && was == h.identity(name) {
		return "", fmt.Errorf("it is %s, which was there before the attachment", node)
	}
	if has := h.bytes(name); has != 0 && q.Bytes != 0 && has != q.Bytes {
		return "", fmt.Errorf("it is %s, which has %d bytes, and the volume has %d", node, has, q.Bytes)
	}
	return node, nil
}

// kernelName returns the kernel's name of the disk of a node, which may have another
// name.
func (h host) kernelName(node string) string {
	if dev, err := number(node); err == nil {
		if dir, err := os.Readlink(filepath.Join(h.sys, "dev/block", dev)); err == nil {
			return filepath.Base(dir)
		}
	}
	return filepath.Base(node)
}

// requested returns the name under which a disk was requested, if it is known.
func (h host) requested(node string) string {
	if h.identify == nil {
		return ""
	}
	if c, err := h.identify(node); err == nil && c.Requested != "" {
		return ", which was asked for as " + c.Requested
	}
	return ""
}
