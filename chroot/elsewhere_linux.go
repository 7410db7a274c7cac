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

// task is a thread.
type task struct {
	pid int
	// dir is its directory in /proc.
	dir string
	// namespace names its mount namespace.
	namespace string
}

// otherNamespaces answers one thread of each mount namespace that is not that of
// this process.
func otherNamespaces() []task {
	here, _ := os.Readlink("/proc/thread-self/ns/mnt")
	seen := map[string]bool{here: true}
	var found []task
	for _, pid := range processes() {
		tasks := "/proc/" + strconv.Itoa(pid) + "/task"
		for _, id := range namesIn(tasks) {
			t := task{pid: pid, dir: filepath.Join(tasks, id)}
			namespace, err := os.Readlink(t.dir + "/ns/mnt")
			if t.namespace = namespace; err == nil && !seen[namespace] {
				seen[namespace] = true
				found = append(found, t)
			}
		}
	}
	return found
}

// mounts lists what is mounted in the namespace of a thread, as paths that the
// thread sees; none if it has ended.
func (t task) mounts() []*mountinfo.Info {
	list, err := os.Open(t.dir + "/mountinfo")
	if err != nil {
		return nil
	}
	defer list.Close()
	mounts, _ := mountinfo.GetMountsFromReader(list, nil)
	return mounts
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
	add(task{dir: "/proc/thread-self"}.mounts(), "")
	for _, t := range otherNamespaces() {
		add(t.mounts(), " in the mount namespace of "+processName(t.pid))
	}
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
	for _, t := range otherNamespaces() {
		if len(copiesOf(t.mounts(), devices)) == 0 {
			continue
		}
		m.keeper.log("unmounting %s in the mount namespace of %s", device, processName(t.pid))
		if err := t.inNamespace(func(own *os.File) error { return unmountCopies(own, devices) }); err != nil {
			stuck = append(stuck, fmt.Errorf("in the mount namespace of %s: %w", processName(t.pid), err))
		}
	}
	return errors.Join(stuck...)
}

// inNamespace acts in the mount namespace of a thread, on one of our own that ends
// with the act. It is given its directory in the /proc of here, for there may be
// none there.
func (t task) inNamespace(act func(own *os.File) error) error {
	namespace, err := os.Open(t.dir + "/ns/mnt")
	if err != nil {
		return ignoreMissing(err)
	}
	defer namespace.Close()
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
			err = enterMounts(namespace)
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
