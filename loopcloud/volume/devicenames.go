//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"golang.org/x/sys/unix"
)

// Naming is the scheme of the device names of attached volumes.
type Naming string

// The naming schemes. Each gives a name to a volume that was requested as /dev/sdf or /dev/xvdf:
const (
	// Xen gives /dev/xvdf, as EC2's Xen instances do.
	Xen Naming = "xen"
	// NVMe gives the next free /dev/nvmeXn1, and a link with the volume's ID, as EC2's Nitro
	// instances do.
	NVMe Naming = "nvme"
	// NVMeLinks is NVMe with links that have the requested names, /dev/sdf and /dev/sdf1, as the
	// udev rules of Amazon Linux create them.
	NVMeLinks Naming = "nvme-links"
	// SCSI gives the next free /dev/sdX, and a link with the requested letter, as Outscale does.
	SCSI Naming = "scsi"
)

// ParseNaming parses the name of a naming scheme.
func ParseNaming(s string) (Naming, error) {
	switch n := Naming(s); n {
	case Xen, NVMe, NVMeLinks, SCSI:
		return n, nil
	}
	return "", fmt.Errorf("%q is not a device naming: use %s, %s, %s or %s", s, Xen, NVMe, NVMeLinks, SCSI)
}

const (
	devDir  = "/dev"
	linkDir = "/dev/disk/by-id"
	// nvmeLink and scsiLink are prefixes of link names, before a volume's ID and the letters.
	nvmeLink = "nvme-Amazon_Elastic_Block_Store_"
	scsiLink = "scsi-0QEMU_QEMU_HARDDISK_sd"
)

// nodes are the names of an attached volume.
type nodes struct {
	base string // /dev/xvdf
	link string // /dev/disk/by-id/…; empty if the scheme has none
	// alias is a link with the requested name, /dev/sdf; empty if the scheme has none.
	alias string
}

// requested matches the device names in requests: EC2 and Outscale accept one or two letters
// after sd or xvd, and EC2 also accepts a name without its directory.
var requested = regexp.MustCompile(`^(?:/dev/)?(sd|xvd)([a-z]{1,2})$`)

// asked is a requested name: sd or xvd, and the letters.
type asked struct{ prefix, letters string }

// parseName parses a requested name.
func parseName(name string) (asked, error) {
	m := requested.FindStringSubmatch(name)
	if m == nil {
		return asked{}, fmt.Errorf("%q is not a device name: use /dev/sdX or /dev/xvdX, X one or two letters", name)
	}
	return asked{m[1], m[2]}, nil
}

// path returns the name as a path below /dev.
func (a asked) path() string { return filepath.Join(devDir, a.prefix+a.letters) }

// claim creates the node of a device, and its link, under the name that the scheme gives a
// volume with these letters. If that name exists, or the name that another scheme gives these
// letters, claim leaves nothing behind and returns an error that wraps state.ErrDeviceTaken:
// other clouds may run on this machine, and a program that looks for these letters tries the
// names of all schemes.
func (n Naming) claim(volume string, name asked, dev uint64) (nodes, error) {
	created, err := n.give(volume, name, dev)
	if err != nil {
		return nodes{}, err
	}
	// Each scheme creates its names before it checks: of two at once, one sees the other.
	if err := n.onlyOne(name.letters); err != nil {
		return nodes{}, errors.Join(err, created.remove())
	}
	return created, nil
}

// give creates the node and the links.
func (n Naming) give(volume string, name asked, dev uint64) (created nodes, err error) {
	letters := name.letters
	switch n {
	case NVMe, NVMeLinks:
		created.link = filepath.Join(linkDir, nvmeLink+strings.Replace(volume, "-", "", 1))
		created.base, err = claimFree(nvmeNames, dev)
	case SCSI:
		created.link = filepath.Join(linkDir, scsiLink+letters)
		created.base, err = claimFree(scsiNames, dev)
	default:
		created.base = filepath.Join(devDir, "xvd"+letters)
		err = claimNode(created.base, dev)
	}
	if err != nil || created.link == "" {
		return created, err
	}
	if err := makeLink(created.link, created.base); err != nil {
		return nodes{}, errors.Join(err, os.Remove(created.base))
	}
	if n != NVMeLinks {
		return created, nil
	}
	if err := makeLink(name.path(), created.base); err != nil {
		return nodes{}, errors.Join(err, created.remove())
	}
	created.alias = name.path()
	return created, nil
}

// onlyOne returns an error if another scheme has given out these letters.
func (n Naming) onlyOne(letters string) error {
	var other string
	switch n {
	case Xen:
		other = filepath.Join(linkDir, scsiLink+letters)
	case SCSI:
		other = filepath.Join(devDir, "xvd"+letters)
	default:
		return nil // its names are found by the volume's ID
	}
	if _, err := os.Stat(other); err == nil {
		return fmt.Errorf("%s exists: %w", other, state.ErrDeviceTaken)
	}
	return nil
}

// nvmeNames yields the names of NVMe disks; nvme0n1 is the machine's own root.
func nvmeNames(yield func(string) bool) {
	for i := 1; i < 1000 && yield(fmt.Sprintf("nvme%dn1", i)); i++ {
	}
}

// scsiNames yields the names of SCSI disks; sda is the machine's own root.
func scsiNames(yield func(string) bool) {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	for i := 1; i < 27*26; i++ {
		name := letters[i%26 : i%26+1]
		if i >= 26 {
			name = letters[i/26-1:i/26] + name
		}
		if !yield("sd" + name) {
			return
		}
	}
}

// claimFree creates the node under the first free name.
func claimFree(names func(func(string) bool), dev uint64) (string, error) {
	for name := range names {
		node := filepath.Join(devDir, name)
		err := claimNode(node, dev)
		if errors.Is(err, state.ErrDeviceTaken) {
			continue
		}
		return node, err
	}
	return "", fmt.Errorf("there is no free device name: %w", state.ErrDeviceTaken)
}

// claimNode creates a node. It returns an error if the node or one of its partitions exists, or
// if the kernel has a disk of that name, whose node may not exist yet.
func claimNode(node string, dev uint64) error {
	if _, err := os.Stat("/sys/block/" + filepath.Base(node)); err == nil {
		return fmt.Errorf("%s is a disk of this host: %w", node, state.ErrDeviceTaken)
	}
	parts, err := partitionNodes(node)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if alive(part.dev) {
			return fmt.Errorf("%s exists: %w", part.path, state.ErrDeviceTaken)
		}
	}
	switch err := unix.Mknod(node, unix.S_IFBLK|0o600, int(dev)); {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%s exists: %w", node, state.ErrDeviceTaken)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("making the device node %s needs root: %w", node, err)
	case err != nil:
		return &os.PathError{Op: "mknod", Path: node, Err: err}
	}
	return nil
}

// alive reports whether the kernel has a device with this number.
func alive(dev uint64) bool {
	_, err := os.Stat("/sys/dev/block/" + numbers(dev))
	return err == nil
}

// numbers returns a device's number in the format of sysfs.
func numbers(dev uint64) string {
	return fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev))
}

// deviceOf returns the device number of a block device's node.
func deviceOf(node string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(node, &st); err != nil {
		return 0, &os.PathError{Op: "lstat", Path: node, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, fmt.Errorf("%s is not a block device", node)
	}
	return st.Rdev, nil
}

// makeLink creates udev's link to a node, a relative one. It replaces a dangling link.
func makeLink(link, node string) error {
	target, err := filepath.Rel(filepath.Dir(link), node)
	if err != nil {
		return err
	}
	for range 10 {
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			return err
		}
		err = os.Symlink(target, link)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process removed the empty directory
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, statErr := os.Stat(link); !errors.Is(statErr, fs.ErrNotExist) {
			break
		}
		if err := removeFile(link); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s exists: %w", link, state.ErrDeviceTaken)
}

// removeLink removes a link, and the directories of links after the last link: a host without
// udev has none.
func removeLink(link string) error {
	if err := removeFile(link); err != nil {
		return err
	}
	if os.Remove(filepath.Dir(link)) == nil {
		_ = os.Remove(filepath.Dir(filepath.Dir(link)))
	}
	return nil
}

// partitionNode is a partition's node.
type partitionNode struct {
	path   string
	number int
	dev    uint64
}

// partitionNodes returns the block device nodes that are named as partitions of base.
func partitionNodes(base string) ([]partitionNode, error) {
	prefix := strings.TrimSuffix(disk.PartitionPath(base, 1), "1")
	paths, err := filepath.Glob(prefix + "[0-9]*")
	if err != nil {
		return nil, err
	}
	var parts []partitionNode
	for _, path := range paths {
		n, err := strconv.Atoi(strings.TrimPrefix(path, prefix))
		if err != nil {
			continue
		}
		if dev, err := deviceOf(path); err == nil {
			parts = append(parts, partitionNode{path, n, dev})
		}
	}
	return parts, nil
}

// followPartitions makes the nodes and links of the partitions consistent with the kernel's
// partitions.
func (n nodes) followPartitions() error {
	have, err := disk.KernelPartitions(n.base)
	if err != nil {
		return err
	}
	parts, err := partitionNodes(n.base)
	if err != nil {
		return err
	}
	var errs []error
	for _, part := range parts {
		if have[part.number] == numbers(part.dev) {
			delete(have, part.number)
			continue
		}
		errs = append(errs, n.removePartition(part))
	}
	for number, dev := range have {
		errs = append(errs, n.addPartition(number, dev))
	}
	return errors.Join(errs...)
}

func (n nodes) addPartition(number int, dev string) error {
	var major, minor uint32
	if _, err := fmt.Sscanf(dev, "%d:%d", &major, &minor); err != nil {
		return fmt.Errorf("cannot read the device number %q: %w", dev, err)
	}
	node := disk.PartitionPath(n.base, number)
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(major, minor))); err != nil {
		return &os.PathError{Op: "mknod", Path: node, Err: err}
	}
	if n.link == "" {
		return nil
	}
	err := makeLink(n.partitionLink(number), node)
	if err == nil && n.alias != "" {
		err = makeLink(disk.PartitionPath(n.alias, number), node)
	}
	return err
}

func (n nodes) removePartition(part partitionNode) error {
	if n.link != "" {
		if err := removeLink(n.partitionLink(part.number)); err != nil {
			return err
		}
	}
	if n.alias != "" {
		if err := removeFile(disk.PartitionPath(n.alias, part.number)); err != nil {
			return err
		}
	}
	return removeFile(part.path)
}

func (n nodes) partitionLink(number int) string { return fmt.Sprintf("%s-part%d", n.link, number) }

// remove removes all nodes and links, the node of the whole device last: it leads to the others.
func (n nodes) remove() error {
	parts, err := partitionNodes(n.base)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if err := n.removePartition(part); err != nil {
			return err
		}
	}
	if n.link != "" {
		if err := removeLink(n.link); err != nil {
			return err
		}
	}
	if n.alias != "" {
		if err := removeFile(n.alias); err != nil {
			return err
		}
	}
	return removeFile(n.base)
}

// given matches the node names of all schemes. No other nodes of a loop device are removed.
var given = regexp.MustCompile(`^(?:xvd[a-z]{1,2}|sd[a-z]{1,2}|nvme\d+n1)$`)

// nodesOf returns the names of a loop device, which it finds by the device number.
func nodesOf(l loop) ([]nodes, error) {
	dev, err := deviceOf(l.path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(devDir)
	if err != nil {
		return nil, err
	}
	var found []nodes
	for _, e := range entries {
		base := filepath.Join(devDir, e.Name())
		if !given.MatchString(e.Name()) {
			continue
		}
		if d, err := deviceOf(base); err == nil && d == dev {
			found = append(found, nodes{base: base, link: linkTo(base), alias: aliasOf(base)})
		}
	}
	return found, nil
}

// linkTo returns the link that a naming scheme created for a node.
func linkTo(base string) string {
	for _, prefix := range []string{nvmeLink, scsiLink} {
		links, _ := filepath.Glob(filepath.Join(linkDir, prefix+"*"))
		for _, link := range links {
			target, err := os.Readlink(link)
			if err == nil && filepath.Join(linkDir, target) == base {
				return link
			}
		}
	}
	return ""
}

// aliasOf returns the link to a node with a requested name, "" if there is none.
func aliasOf(base string) string {
	for _, prefix := range []string{"sd", "xvd"} {
		links, _ := filepath.Glob(filepath.Join(devDir, prefix+"*"))
		for _, link := range links {
			if target, err := os.Readlink(link); err == nil && target == filepath.Base(base) {
				return link
			}
		}
	}
	return ""
}
