package chroot

import (
	"bufio"
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// reach is all that one can hold of a root: its mounts and those below it, as this
// process sees them, and the file systems that are nowhere else.
//
// What a process holds is found by the mount that it came through, and else by the
// file system. Who uses a directory of the host that is also bound into the root
// came through the host's own mount, of a file system that is not the root's: that
// is no holder. Paths would not do: in another mount namespace the same path is
// another place.
type reach struct {
	root    string
	mounts  map[uint64]bool
	devices map[uint64]bool
	// inside are the file systems of the mounts, be they elsewhere too.
	inside map[uint64]bool
	// namespaces are the mount namespaces that have mounts of their own inside.
	namespaces map[string]bool
	// sockets are the inodes of the Unix sockets that have a name in the root.
	sockets map[uint64]bool
	// maps says that mapped files are looked at too, which takes longest.
	maps bool
}

// reach looks at what is mounted now. Who has detached the mount meanwhile may still
// use its file system.
func (m *Mounted) reach() (reach, error) {
	numbers, _ := m.present() // without those that cannot be asked for
	return reachOf(m.real, slices.Collect(maps.Values(numbers))...)
}

// reachOf looks at what is mounted at a path now, and at further devices.
func reachOf(root string, devices ...uint64) (reach, error) {
	r := reach{root: root, mounts: map[uint64]bool{}, devices: map[uint64]bool{}, inside: map[uint64]bool{}, namespaces: map[string]bool{}}
	for _, device := range devices {
		r.devices[device] = true
	}
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return r, err
	}
	outside := map[uint64]bool{}
	for _, m := range all {
		if below(m.Mountpoint, root) {
			r.mounts[uint64(m.ID)], r.inside[deviceOf(m)] = true, true
		} else {
			outside[deviceOf(m)] = true
		}
	}
	for _, m := range all {
		// Of the file systems inside, those without a disk may be anybody's: the
		// kernel has one sysfs, and shows it in every container.
		if m.Mountpoint == root || below(m.Mountpoint, root) && m.Major != 0 && !outside[deviceOf(m)] {
			r.devices[deviceOf(m)] = true
		}
	}
	r.addCopies()
	r.sockets, err = socketsOn(r.devices)
	return r, err
}

// addCopies adds the mounts of the root, and those below them, that are in the
// mount namespaces of others. A namespace that was made during the build has them
// all, whoever made it and whatever for; one that has more of them was made for the
// root.
func (r reach) addCopies() {
	eachNamespace(func(n mountNamespace) {
		for _, m := range copiesOf(n.mounts, r.devices) {
			r.mounts[uint64(m.ID)] = true
			if !r.inside[deviceOf(m)] && !r.devices[deviceOf(m)] {
				r.namespaces[n.name] = true
			}
		}
	})
}

// deviceOf is the number of a mount's file system.
func deviceOf(m *mountinfo.Info) uint64 { return unix.Mkdev(uint32(m.Major), uint32(m.Minor)) }

// isOn reports whether a mount is of one of some file systems or block devices. A btrfs
// has a number of its own, and its mounts name one of its devices.
func isOn(m *mountinfo.Info, devices map[uint64]bool) bool {
	if devices[deviceOf(m)] || m.FSType != "btrfs" {
		return devices[deviceOf(m)]
	}
	source, err := deviceAt(m.Source)
	if err != nil || source.Number == 0 {
		return false
	}
	for device := range devices {
		if device == source.Number || sharesBtrfs(device, source.Number) {
			return true
		}
	}
	return false
}

// processes are those that hold something, and how.
func (r reach) processes() []holder {
	var found []holder
	for _, pid := range processes() {
		if how := r.of(pid); how != "" {
			found = append(found, holder{pid: pid, name: processName(pid), how: how})
		}
	}
	return found
}

// of says how a process holds the root; empty means that it does not.
func (r reach) of(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	tasks := namesIn(dir + "/task")
	leader := strconv.Itoa(pid)
	looked := false
	for _, task := range tasks {
		at := dir + "/task/" + task
		// Kernel threads have no program, and neither has what has ended.
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

// ofTask looks at one thread. What all threads of a process commonly have together
// is left out for those that have it together.
func (r reach) ofTask(at string, shared bool) string {
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
	for _, fd := range namesIn(at + "/fd") {
		if file := at + "/fd/" + fd; r.leadsTo(file) {
			path, _ := os.Readlink(file)
			return "has " + path + " open"
		}
	}
	if !r.maps {
		return ""
	}
	return r.mapped(at)
}

// hasMounts says whether a thread is in a mount namespace that was made for the
// root.
func (r reach) hasMounts(at string) bool {
	if len(r.namespaces) == 0 {
		return false
	}
	namespace, err := os.Readlink(at + "/ns/mnt")
	return err == nil && r.namespaces[namespace] && !isVisitor(at)
}

// isVisitor says whether a thread is one of another build's keeper, which is in a
// namespace only to unmount its own root there. Its process is at home.
func isVisitor(at string) bool {
	process, _, _ := strings.Cut(at, "/task/")
	line, err := os.ReadFile(process + "/cmdline")
	if args := strings.Split(string(line), "\x00"); err != nil || len(args) < 2 || args[1] != keepArg {
		return false
	}
	here, errHere := os.Readlink("/proc/self/ns/mnt")
	home, errHome := os.Readlink(process + "/ns/mnt")
	return errHere == nil && errHome == nil && home == here
}

// leadsTo says whether a link of /proc leads to something of the root.
func (r reach) leadsTo(link string) bool {
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
	return known && r.mounts[st.Mnt_id] || r.devices[unix.Mkdev(st.Dev_major, st.Dev_minor)]
}

// mapped says whether a file of the root is mapped. The whole list is searched for
// what a line of ours would hold first, for most lists have none.
func (r reach) mapped(at string) string {
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
		if r.devices[parseDevice(fields[3])] || r.leadsTo(files+trimZeros(fields[0])) {
			return "has " + strings.Join(fields[5:], " ") + " mapped"
		}
	}
	return ""
}

func (r reach) mayBeIn(list []byte) bool {
	for device := range r.devices {
		if bytes.Contains(list, fmt.Appendf(nil, " %02x:%02x ", unix.Major(device), unix.Minor(device))) {
			return true
		}
	}
	return bytes.Contains(list, []byte(" "+r.root+"/"))
}

// parseDevice reads the device of a line of maps; 0 is none.
func parseDevice(text string) uint64 {
	major, minor, _ := strings.Cut(text, ":")
	a, errA := strconv.ParseUint(major, 16, 32)
	b, errB := strconv.ParseUint(minor, 16, 32)
	if errA != nil || errB != nil {
		return 0
	}
	return unix.Mkdev(uint32(a), uint32(b))
}

// trimZeros makes a range of maps the name that it has in map_files.
func trimZeros(addresses string) string {
	from, to, _ := strings.Cut(addresses, "-")
	return strings.TrimLeft(from, "0") + "-" + strings.TrimLeft(to, "0")
}

// sharesFiles says whether two threads have one table of open files.
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

// processes lists the ids of all processes.
func processes() []int {
	var pids []int
	for _, name := range namesIn("/proc") {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// namesIn lists a directory of /proc; none if it is gone.
func namesIn(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}

// below says whether a path is root or lies below it.
func below(path, root string) bool {
	return path == root || root == "/" || strings.HasPrefix(path, root+"/")
}
