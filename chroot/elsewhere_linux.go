package chroot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// mountNamespace is a mount namespace of other processes.
type mountNamespace struct {
	// name is the target of its link in /proc.
	name string
	// pid is a process of it; file is the namespace itself.
	pid  int
	file *os.File
	// mounts are as the process sees them.
	mounts []*mountinfo.Info
}

// eachNamespace calls act for each mount namespace that is not that of this process. A thread
// may leave its namespace at any moment, as the threads of other keepers do. If that happens
// before the mounts are read, another thread of the namespace is used.
func eachNamespace(act func(mountNamespace)) {
	here, _ := os.Readlink("/proc/thread-self/ns/mnt")
	seen := map[string]bool{here: true}
	for _, pid := range processes() {
		tasks := "/proc/" + strconv.Itoa(pid) + "/task"
		for _, id := range namesIn(tasks) {
			dir := filepath.Join(tasks, id)
			name, err := os.Readlink(dir + "/ns/mnt")
			if err != nil || seen[name] {
				continue
			}
			if n, ok := namespaceOf(dir, name); ok {
				n.pid, seen[name] = pid, true
				act(n)
				n.file.Close()
			}
		}
	}
}

// namespaceOf opens the mount namespace of a thread and reads its mounts, if that is still
// the named one. dir is the thread's directory in /proc.
func namespaceOf(dir, name string) (n mountNamespace, ok bool) {
	file, err := os.Open(dir + "/ns/mnt")
	if err != nil {
		return n, false
	}
	mounts, err := mountsIn(dir)
	opened, errOpened := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(file.Fd())))
	after, errAfter := os.Readlink(dir + "/ns/mnt")
	if errors.Join(err, errOpened, errAfter) != nil || opened != name || after != name {
		file.Close()
		return n, false
	}
	return mountNamespace{name: name, file: file, mounts: mounts}, true
}

// mountsIn returns the mounts that a thread sees. dir is its directory in /proc.
func mountsIn(dir string) ([]*mountinfo.Info, error) {
	list, err := os.Open(dir + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer list.Close()
	return mountinfo.GetMountsFromReader(list, nil)
}

// copiesOf are the mounts of some file systems, and those below them.
func copiesOf(mounts []*mountinfo.Info, devices map[uint64]bool) []*mountinfo.Info {
	copies := slices.DeleteFunc(slices.Clone(mounts), func(m *mountinfo.Info) bool { return !isOn(m, devices) })
	return slices.DeleteFunc(slices.Clone(mounts), func(m *mountinfo.Info) bool {
		return !slices.ContainsFunc(copies, func(c *mountinfo.Info) bool { return below(m.Mountpoint, c.Mountpoint) })
	})
}

// mountsOf names where a block device is mounted, in this namespace or in that of
// another process.
func mountsOf(device uint64) []string {
	var found []string
	add := func(mounts []*mountinfo.Info, whose string) {
		for _, m := range mounts {
			if isOn(m, map[uint64]bool{device: true}) {
				found = append(found, "a mount on "+m.Mountpoint+whose)
			}
		}
	}
	own, _ := mountsIn("/proc/thread-self")
	add(own, "")
	eachNamespace(func(n mountNamespace) { add(n.mounts, " in the mount namespace of "+processName(n.pid)) })
	return found
}

// overlaysOver names the overlay file systems that have a directory of the root as one of
// their layers. They use its file system, also when the root is unmounted.
func overlaysOver(root string) []string {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("overlay"))
	if err != nil {
		return nil
	}
	var found []string
	for _, m := range mounts {
		if strings.Contains(m.VFSOptions, root+"/") || strings.Contains(m.VFSOptions, root+":") || strings.Contains(m.VFSOptions+",", root+",") {
			found = append(found, "the overlay mount on "+m.Mountpoint)
		}
	}
	return found
}

// unmountElsewhere unmounts a file system in the mount namespaces of others. Every
// service of the host that starts during a build, and every command that makes a
// namespace, gets a copy of all mounts, and the disk stays in use for as long as
// the copy is there. Whoever uses nothing of it need not be ended for that.
func (m *Mounted) unmountElsewhere(device string, number uint64) error {
	devices := map[uint64]bool{number: true}
	var stuck []error
	eachNamespace(func(n mountNamespace) {
		if len(copiesOf(n.mounts, devices)) == 0 {
			return
		}
		m.keeper.log("unmounting %s in the mount namespace of %s", device, processName(n.pid))
		if err := n.do(func(own *os.File) error { return unmountCopies(own, devices) }); err != nil {
			stuck = append(stuck, fmt.Errorf("in the mount namespace of %s: %w", processName(n.pid), err))
		}
	})
	return errors.Join(stuck...)
}

// do calls act on a thread that is in the namespace and ends with the call. own is the
// thread's directory in this namespace's /proc; the other one may have none.
func (n mountNamespace) do(act func(own *os.File) error) error {
	home, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	defer home.Close()
	result := make(chan error)
	go onOwnThread(func() {
		own, err := os.Open("/proc/thread-self")
		if err == nil {
			defer own.Close()
			err = enterMounts(n.file)
		}
		if err == nil {
			err = errors.Join(act(own), unix.Setns(int(home.Fd()), unix.CLONE_NEWNS))
		}
		result <- err
	})
	return <-result
}

// onOwnThread acts on a thread that ends with the goroutine. The first thread of a
// process never ends, so it is held while another one is found.
func onOwnThread(act func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		act()
		return
	}
	defer runtime.UnlockOSThread()
	done := make(chan struct{})
	go func() {
		defer close(done)
		onOwnThread(act)
	}()
	<-done
}

// enterMounts brings this thread into a mount namespace.
func enterMounts(namespace *os.File) error {
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS)
	}
	if err != nil {
		return fmt.Errorf("cannot enter %s: %w", namespace.Name(), err)
	}
	return nil
}

// unmountCopies unmounts file systems where a thread sees them, with everything
// below.
func unmountCopies(own *os.File, devices map[uint64]bool) error {
	fd, err := unix.Openat(int(own.Fd()), "mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	list := os.NewFile(uintptr(fd), "mountinfo")
	defer list.Close()
	mounts, err := mountinfo.GetMountsFromReader(list, nil)
	if err != nil {
		return err
	}
	for _, m := range deepestFirst(copiesOf(mounts, devices)) {
		if err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "unmount", Path: m.Mountpoint, Err: err}
		}
	}
	return nil
}
