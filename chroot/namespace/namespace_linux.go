package namespace

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Set is a pair of namespaces, UTS and IPC, that the commands in a root share with each
// other and not with the host. It lasts as long as the root is mounted, so that the host
// name that one provisioner sets is there for the next.
type Set struct {
	files []*os.File
}

// kinds are the kinds of namespaces in a Set. Mounts, processes, the network, users,
// cgroups and time stay those of the host.
var kinds = []struct {
	flag        int
	file, label string
}{
	{unix.CLONE_NEWUTS, "uts", "the host name"},
	{unix.CLONE_NEWIPC, "ipc", "System V IPC and POSIX message queues"},
}

// New creates namespaces that begin as copies of this process's. If the kernel lacks a
// kind, or does not allow it, that of the host is used, and log is called.
func New(log func(format string, args ...any)) *Set {
	s := &Set{}
	var missing []string
	done := make(chan struct{})
	go onOwnThread(func() {
		defer close(done)
		for _, kind := range kinds {
			file, err := create(kind.flag, kind.file)
			if err != nil {
				missing = append(missing, fmt.Sprintf("%s (%v)", kind.label, err))
				continue
			}
			s.files = append(s.files, file)
		}
	})
	<-done
	if len(missing) > 0 {
		log("commands in the chroot share with the host %s", strings.Join(missing, " and "))
	}
	return s
}

// create moves this thread into a new namespace and opens that.
func create(flag int, name string) (*os.File, error) {
	if err := unix.Unshare(flag); err != nil {
		return nil, err
	}
	return os.Open("/proc/thread-self/ns/" + name)
}

// Do calls act on a thread in the namespaces, which ends with it: a process that act
// starts is in them too. A nil Set calls it on the present thread.
func (s *Set) Do(act func() error) error {
	if s == nil {
		return act()
	}
	result := make(chan error)
	go onOwnThread(func() {
		if err := s.enter(); err != nil {
			result <- err
			return
		}
		result <- act()
	})
	return <-result
}

// enter moves this thread into the namespaces.
func (s *Set) enter() error {
	for _, file := range s.files {
		if err := unix.Setns(int(file.Fd()), 0); err != nil {
			return fmt.Errorf("cannot enter %s: %w", file.Name(), err)
		}
	}
	return nil
}

// Close lets the namespaces end with the last process in them.
func (s *Set) Close() {
	if s == nil {
		return
	}
	for _, file := range s.files {
		file.Close()
	}
}

// onOwnThread calls act on a thread that ends with the goroutine. The first thread of a
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
