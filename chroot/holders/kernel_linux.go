package holders

import (
	"errors"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/mounttable"
	"github.com/packer-chroot/packer-plugin-chroot/disk/loopdev"
)

// LoopDevices returns the loop devices over files of the root.
func (r Footprint) LoopDevices() []string {
	var found []string
	devices, _ := loopdev.Devices()
	for _, device := range devices {
		f, err := os.Open(device)
		if err != nil {
			continue
		}
		if info, err := unix.IoctlLoopGetStatus64(int(f.Fd())); err == nil && r.Devices[info.Device] {
			found = append(found, device)
		}
		f.Close()
	}
	return found
}

// DetachLoop detaches a loop device from its file, now or when its last user has closed it.
func DetachLoop(device string) error {
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

// SwapFiles returns the swap files below a path.
func SwapFiles(root string) []string {
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

// SwapOff ends the use of a swap file; swapoff(2).
func SwapOff(file string) error {
	name, err := unix.BytePtrFromString(file)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(name)), 0, 0); errno != 0 {
		return &os.PathError{Op: "swapoff", Path: file, Err: errno}
	}
	return nil
}
