package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Find waits for the device of an attached volume and answers its node: the
// kernel seldom gives a device the name that the cloud was asked for. It ends
// with ctx.
//
// In this order it trusts: the serial number of an NVMe disk, which on EC2 is
// the volume's id; udev's link of that name, unless the serial number says
// otherwise, for such links can be stale; on Outscale udev's link with the letter
// that was asked for; the name asked for, as Xen has it (xvdf for sdf) and as it
// is.
//
// https://docs.aws.amazon.com/ebs/latest/userguide/identify-nvme-ebs-device.html
func Find(ctx context.Context, q Query) (string, error) {
	return host{dev: "/dev", sys: "/sys"}.find(ctx, q)
}

// host is where the nodes and sysfs are.
type host struct{ dev, sys string }

func (h host) find(ctx context.Context, q Query) (string, error) {
	candidates := h.candidates(q)
	var found string
	var lacks []string
	err := await(ctx, append(dirs(candidates), h.dev), func() bool {
		found, lacks = h.once(q, candidates)
		return found != ""
	})
	if err != nil {
		return "", fmt.Errorf("no device for %s: %s: %w", q.Volume, strings.Join(lacks, ", "), err)
	}
	return found, nil
}

// once looks once. A disk with the volume's serial number is the one, even if
// its node is not there yet.
func (h host) once(q Query, candidates []string) (found string, lacks []string) {
	if node := h.bySerial(q.Volume); node != "" {
		return firstDevice([]string{node})
	}
	found, lacks = h.firstOf(q, candidates)
	return found, append([]string{"no NVMe disk has its serial number"}, lacks...)
}

// candidates are the paths that can be the volume's, best first.
func (h host) candidates(q Query) []string {
	var paths []string
	if q.Volume != "" {
		paths = append(paths, filepath.Join(h.dev, "disk/by-id", "nvme-Amazon_Elastic_Block_Store_"+serial(q.Volume)))
	}
	name := filepath.Base(q.Device)
	for _, prefix := range []string{"xvd", "sd"} {
		if letters, ok := strings.CutPrefix(name, prefix); ok {
			paths = append(paths,
				filepath.Join(h.dev, "disk/by-id", "scsi-0QEMU_QEMU_HARDDISK_sd"+letters),
				filepath.Join(h.dev, "xvd"+letters),
				filepath.Join(h.dev, "sd"+letters))
		}
	}
	return paths
}

// serial is how EC2 writes a volume's id as the serial number of a disk.
func serial(volume string) string { return strings.Replace(volume, "-", "", 1) }

// bySerial finds the NVMe disk whose serial number is the volume's.
func (h host) bySerial(volume string) string {
	if volume == "" {
		return ""
	}
	disks, _ := filepath.Glob(filepath.Join(h.sys, "block", "nvme*"))
	for _, d := range disks {
		if s, ok := h.serialOf(filepath.Base(d)); ok && s == serial(volume) {
			return filepath.Join(h.dev, filepath.Base(d))
		}
	}
	return ""
}

// serialOf reads a disk's serial number; not every disk has one.
func (h host) serialOf(name string) (string, bool) {
	raw, err := os.ReadFile(filepath.Join(h.sys, "block", name, "device", "serial"))
	s := strings.TrimSpace(string(raw))
	return s, err == nil && s != ""
}

// firstOf answers the first candidate that is a device and not known to be
// another volume's, with links resolved.
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

// verify resolves a candidate. An NVMe disk of EC2 with the serial number of
// another volume is not it.
func (h host) verify(q Query, path string) (string, error) {
	node, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", reason(err)
	}
	s, ok := h.serialOf(filepath.Base(node))
	if ok && q.Volume != "" && strings.HasPrefix(s, "vol") && s != serial(q.Volume) {
		return "", fmt.Errorf("it is %s, the device of %s", node, s)
	}
	return node, nil
}
