package chroot

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
)

// holder is a process that holds a root.
type holder struct {
	pid int
	// name is its id and what it runs.
	name string
	// how it holds the root, as the end of a sentence about it.
	how string
	// fd is a pidfd, so that no signal reaches another process that was given the
	// id since.
	fd int
}

// holders names what keeps the root in use, for an error.
func (m *Mounted) holders() []string {
	r, err := m.reach()
	if err != nil {
		return nil
	}
	r.maps = true
	var found []string
	for _, h := range r.processes() {
		found = append(found, h.String())
	}
	found = slices.Concat(found, loopsOn(r), swapsIn(m.real))
	if len(found) == 0 {
		found = m.suspects()
	}
	return found
}

// String names the process as a log or an error does.
func (h holder) String() string { return h.name + ", which " + h.how }

// loopsOn lists the loop devices over files of the root.
func loopsOn(r reach) []string {
	var found []string
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, file := range backing {
		device := "/dev/" + strings.Split(file, "/")[3]
		f, err := os.Open(device)
		if err != nil {
			continue
		}
		if info, err := unix.IoctlLoopGetStatus64(int(f.Fd())); err == nil && r.devices[info.Device] {
			found = append(found, device)
		}
		f.Close()
	}
	return found
}

// letGo takes back what the kernel itself does with files of the root, which a
// provisioner has left: loop devices over them, and swapping to them.
func (m *Mounted) letGo() error {
	r, err := m.reach()
	if err != nil {
		return err
	}
	for _, device := range loopsOn(r) {
		m.keeper.log("detaching %s, which is over a file in %s", device, m.path)
		if err := detachLoop(device); err != nil {
			return err
		}
	}
	for _, file := range swapsIn(m.real) {
		m.keeper.log("ending the swapping to %s", file)
		if err := swapOff(file); err != nil {
			return err
		}
	}
	if err := m.unregisterFormats(); err != nil || m.probed {
		return err
	}
	m.probed = true
	return m.removeProbes(func() bool { return m.tryUnmount() == nil })
}

// detachLoop ends a loop device, now or when its last user goes.
func detachLoop(device string) error {
	f, err := os.Open(device)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return &os.PathError{Op: "detach", Path: device, Err: err}
	}
	return nil
}

// swapsIn lists the files below a path that are swapped to.
func swapsIn(root string) []string {
	list, _ := os.ReadFile("/proc/swaps")
	plain := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var found []string
	for line := range strings.Lines(string(list)) {
		name, _, _ := strings.Cut(line, " ")
		if file := plain.Replace(name); mounttable.Below(file, root) {
			found = append(found, file)
		}
	}
	return found
}

func swapOff(file string) error {
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
		return &os.PathError{Op: "swapoff", Path: file, Err: errno}
	}
	return nil
}
