package holders

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/namespace"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// Footprint is the footprint of a root: its mounts and those below it, as this process sees
// them, and the file systems that are mounted nowhere else.
//
// A process is a holder if it has opened a file through one of the mounts, or a file of one
// of the file systems. A process that uses a directory of the host which is also bound into
// the root has come through the host's own mount, of a file system that is not the root's:
// it is not a holder. Paths would not do, because they differ between mount namespaces.
type Footprint struct {
	root    string
	mounts  map[uint64]bool
	Devices map[uint64]bool
	// inside are the file systems of the mounts, including those that are mounted elsewhere
	// too.
	inside map[uint64]bool
	// namespaces are the mount namespaces that have mounts of their own inside.
	namespaces map[string]bool
	// sockets are the inodes of the Unix sockets that have a name in the root.
	sockets map[uint64]bool
	// Thorough reports whether mapped files are read too, which takes longest.
	Thorough bool
	// visitor reports whether a process may be in a mount namespace of the root without
	// being a holder; nil is none.
	visitor func(pid int) bool
}

// Take returns the footprint of the root that is mounted at a path now, and of further
// devices. visitor reports whether a process only visits mount namespaces, to unmount a
// root of its own there; nil is none.
func Take(root string, devices []uint64, visitor func(pid int) bool) (Footprint, error) {
	r := Footprint{visitor: visitor, root: root, mounts: map[uint64]bool{}, Devices: map[uint64]bool{}, inside: map[uint64]bool{}, namespaces: map[string]bool{}}
	for _, device := range devices {
		r.Devices[device] = true
	}
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return r, err
	}
	outside := map[uint64]bool{}
	for _, m := range all {
		if mounttable.Below(m.Mountpoint, root) {
			r.mounts[uint64(m.ID)], r.inside[mounttable.Device(m)] = true, true
		} else {
			outside[mounttable.Device(m)] = true
		}
	}
	for _, m := range all {
		// File systems without a disk may be used by any process: the kernel has one
		// sysfs, and shows it in every container.
		if m.Mountpoint == root || mounttable.Below(m.Mountpoint, root) && m.Major != 0 && !outside[mounttable.Device(m)] {
			r.Devices[mounttable.Device(m)] = true
		}
	}
	r.addCopies()
	r.sockets, err = socketsOn(r.Devices)
	return r, err
}

// addCopies adds the copies of the root's mounts, and the mounts below them, in other mount
// namespaces. Every namespace that was created during the build has them all; one that has
// more of them was created for the root.
func (r Footprint) addCopies() {
	namespace.EachMount(func(n namespace.Mount) {
		for _, m := range mounttable.Copies(n.Mounts, r.Devices) {
			r.mounts[uint64(m.ID)] = true
			if !r.inside[mounttable.Device(m)] && !r.Devices[mounttable.Device(m)] {
				r.namespaces[n.Name] = true
			}
		}
	})
}

// Holders returns the processes that hold the root.
func (r Footprint) Holders() []Holder {
	var found []Holder
	for _, pid := range procfs.Processes() {
		if how := r.heldBy(pid); how != "" {
			found = append(found, Holder{pid: pid, description: procfs.Describe(pid), how: how})
		}
	}
	return found
}

// heldBy returns how a process holds the root, as the end of a sentence. It is empty if the
// process does not.
func (r Footprint) heldBy(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	tasks := procfs.Names(dir + "/task")
	leader := strconv.Itoa(pid)
	looked := false
	for _, task := range tasks {
		at := dir + "/task/" + task
		// Kernel threads have no program, and neither has a thread that has ended.
		if _, err := os.Readlink(at + "/exe"); err != nil {
			continue
		}
		if how := r.ofTask(at, looked && sharesFiles(leader, task)); how != "" {
			return how
		}
		if !looked {
			leader, looked = task, true
		}
	}
	return ""
}

// ofTask is heldBy for one thread. It leaves out the open and mapped files of a thread that
// shares them with one that was examined.
func (r Footprint) ofTask(at string, shared bool) string {
	for _, link := range []struct{ name, how string }{
		{"root", "has its root there"}, {"cwd", "works there"}, {"exe", "is a program of it"},
	} {
		if r.leadsTo(at + "/" + link.name) {
			return link.how
		}
	}
	if r.hasMounts(at) {
		return "has mounts of its own there"
	}
	if shared {
		return ""
	}
	for _, fd := range procfs.Names(at + "/fd") {
		if file := at + "/fd/" + fd; r.leadsTo(file) {
			path, _ := os.Readlink(file)
			return "has " + path + " open"
		}
	}
	if !r.Thorough {
		return ""
	}
	return r.mapped(at)
}

// hasMounts reports whether a thread is in a mount namespace that was created for the root.
func (r Footprint) hasMounts(at string) bool {
	if len(r.namespaces) == 0 {
		return false
	}
	namespace, err := os.Readlink(at + "/ns/mnt")
	return err == nil && r.namespaces[namespace] && !r.visits(at)
}

// visits reports whether a thread only visits a mount namespace: its process is at home in
// that of this process.
func (r Footprint) visits(at string) bool {
	process, _, _ := strings.Cut(at, "/task/")
	pid, err := strconv.Atoi(filepath.Base(process))
	if err != nil || r.visitor == nil || !r.visitor(pid) {
		return false
	}
	here, errHere := os.Readlink("/proc/self/ns/mnt")
	home, errHome := os.Readlink(process + "/ns/mnt")
	return errHere == nil && errHome == nil && home == here
}

// leadsTo reports whether a link of /proc leads to a file of the root.
func (r Footprint) leadsTo(link string) bool {
	var st unix.Statx_t
	// A server of a network file system is not asked, for it may never answer.
	err := unix.Statx(unix.AT_FDCWD, link, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_MNT_ID, &st)
	if err != nil {
		return false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFSOCK && r.sockets[st.Ino] {
		return true
	}
	known := st.Mask&unix.STATX_MNT_ID != 0
	return known && r.mounts[st.Mnt_id] || r.Devices[unix.Mkdev(st.Dev_major, st.Dev_minor)]
}

// mapped returns a mapped file of the root, as the end of a sentence. It first searches the
// whole list for a device of the root, because most lists have none.
func (r Footprint) mapped(at string) string {
	list, err := os.ReadFile(at + "/maps")
	if err != nil || !r.mayBeIn(list) {
		return ""
	}
	process, _, _ := strings.Cut(at, "/task/")
	files := process + "/map_files/"
	for lines := bufio.NewScanner(bytes.NewReader(list)); lines.Scan(); {
		// address permissions offset device inode path
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue
		}
		if r.Devices[parseDevice(fields[3])] || r.leadsTo(files+trimZeros(fields[0])) {
			return "has " + strings.Join(fields[5:], " ") + " mapped"
		}
	}
	return ""
}

// mayBeIn reports whether a list of mapped files can have one of the root.
func (r Footprint) mayBeIn(list []byte) bool {
	for device := range r.Devices {
		if bytes.Contains(list, fmt.Appendf(nil, " %02x:%02x ", unix.Major(device), unix.Minor(device))) {
			return true
		}
	}
	return bytes.Contains(list, []byte(" "+r.root+"/"))
}

// parseDevice returns the device of a line of maps; 0 is none.
func parseDevice(text string) uint64 {
	major, minor, _ := strings.Cut(text, ":")
	a, errA := strconv.ParseUint(major, 16, 32)
	b, errB := strconv.ParseUint(minor, 16, 32)
	if errA != nil || errB != nil {
		return 0
	}
	return unix.Mkdev(uint32(a), uint32(b))
}

// trimZeros returns the name in map_files of a range of addresses in maps.
func trimZeros(addresses string) string {
	from, to, _ := strings.Cut(addresses, "-")
	return strings.TrimLeft(from, "0") + "-" + strings.TrimLeft(to, "0")
}

// sharesFiles reports whether two threads have one table of open files.
func sharesFiles(a, b string) bool {
	const kcmpFiles = 2 // KCMP_FILES of linux/kcmp.h
	one, errA := strconv.Atoi(a)
	other, errB := strconv.Atoi(b)
	if errA != nil || errB != nil {
		return false
	}
	different, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(one), uintptr(other), kcmpFiles, 0, 0, 0)
	// A kernel without kcmp cannot tell; threads that differ are the exception.
	return different == 0 || errno == unix.ENOSYS
}
