package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
)

// Mount is a mount namespace that is not this process's.
type Mount struct {
	// Name is the target of its link in /proc.
	Name string
	// PID is a process in it.
	PID int
	// Mounts are its mounts, with paths as the process sees them.
	Mounts []*mountinfo.Info
	// file is the namespace itself.
	file *os.File
}

// EachMount calls act for each mount namespace that is not this process's. A thread may
// leave its namespace at any moment, as those of other keepers do: a namespace counts as
// seen only after its mounts have been read.
func EachMount(act func(Mount)) {
	here, _ := os.Readlink("/proc/thread-self/ns/mnt")
	seen := map[string]bool{here: true}
	for _, pid := range procfs.Processes() {
		tasks := "/proc/" + strconv.Itoa(pid) + "/task"
		for _, id := range procfs.Names(tasks) {
			dir := filepath.Join(tasks, id)
			name, err := os.Readlink(dir + "/ns/mnt")
			if err != nil || seen[name] {
				continue
			}
			if m, ok := openMount(dir, name); ok {
				m.PID, seen[name] = pid, true
				act(m)
				m.file.Close()
			}
		}
	}
}

// openMount opens the mount namespace of a thread and reads its mounts, if that is still
// the named one. dir is the thread's directory in /proc.
func openMount(dir, name string) (m Mount, ok bool) {
	file, err := os.Open(dir + "/ns/mnt")
	if err != nil {
		return m, false
	}
	mounts, err := mountsIn(dir)
	opened, errOpened := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(file.Fd())))
	after, errAfter := os.Readlink(dir + "/ns/mnt")
	if errors.Join(err, errOpened, errAfter) != nil || opened != name || after != name {
		file.Close()
		return m, false
	}
	return Mount{Name: name, file: file, Mounts: mounts}, true
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

// Do calls act on a thread in the namespace, which ends with it. self is the thread's
// directory in the /proc of this process, for there may be none in the other namespace.
func (m Mount) Do(act func(self *os.File) error) error {
	home, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	defer home.Close()
	result := make(chan error)
	go onOwnThread(func() {
		self, err := os.Open("/proc/thread-self")
		if err == nil {
			defer self.Close()
			err = enterMount(m.file)
		}
		if err == nil {
			err = errors.Join(act(self), unix.Setns(int(home.Fd()), unix.CLONE_NEWNS))
		}
		result <- err
	})
	return <-result
}

// enterMount moves this thread into a mount namespace.
func enterMount(namespace *os.File) error {
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS)
	}
	if err != nil {
		return fmt.Errorf("cannot enter %s: %w", namespace.Name(), err)
	}
	return nil
}
