package chroot

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// namespaces are those that the commands in a root have in common with each other, and
// not with the host. They last as long as the root is mounted, so that a provisioner
// finds the host name that an earlier one has set.
type namespaces struct {
	files []*os.File
}

// ownNamespaces are the kinds of namespaces that a root gets. Mounts, processes, the
// network, users, cgroups and time stay those of the host.
var ownNamespaces = []struct {
	flag int
	file string
	what string
}{
	{unix.CLONE_NEWUTS, "uts", "the host name"},
	{unix.CLONE_NEWIPC, "ipc", "System V IPC and POSIX message queues"},
}

// newNamespaces creates namespaces that begin as copies of this process's. A kernel
// that does not have a kind, or does not allow it, leaves that to the host's, which log
// is told.
func newNamespaces(log func(format string, args ...any)) *namespaces {
	n := &namespaces{}
	var missing []string
	done := make(chan struct{})
	go onOwnThread(func() {
		defer close(done)
		for _, kind := range ownNamespaces {
			file, err := newNamespace(kind.flag, kind.file)
			if err != nil {
				missing = append(missing, fmt.Sprintf("%s (%v)", kind.what, err))
				continue
			}
			n.files = append(n.files, file)
		}
	})
	<-done
	if len(missing) > 0 {
		log("commands in the chroot share with the host %s", strings.Join(missing, " and "))
	}
	return n
}

// newNamespace moves this thread into a new namespace and opens that.
func newNamespace(flag int, name string) (*os.File, error) {
	if err := unix.Unshare(flag); err != nil {
		return nil, err
	}
	return os.Open("/proc/thread-self/ns/" + name)
}

// do calls act on a thread that is in the namespaces and ends with it: a process that
// act starts is in them too. A nil n calls it where it is.
func (n *namespaces) do(act func() error) error {
	if n == nil {
		return act()
	}
	result := make(chan error)
	go onOwnThread(func() {
		if err := n.enter(); err != nil {
			result <- err
			return
		}
		result <- act()
	})
	return <-result
}

// enter moves this thread into the namespaces.
func (n *namespaces) enter() error {
	for _, file := range n.files {
		if err := unix.Setns(int(file.Fd()), 0); err != nil {
			return fmt.Errorf("cannot enter %s: %w", file.Name(), err)
		}
	}
	return nil
}

// close lets the namespaces end with the last process in them.
func (n *namespaces) close() {
	if n == nil {
		return
	}
	for _, file := range n.files {
		file.Close()
	}
}
