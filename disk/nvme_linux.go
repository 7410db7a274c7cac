package disk

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctl for admin commands, of include/uapi/linux/nvme_ioctl.h, and the command of
// the NVM Express base specification that is sent with it.
const (
	nvmeAdminCommand = 0xc0484e41 // _IOWR('N', 0x41, struct nvme_admin_cmd)
	opIdentify       = 0x06
	cnsController    = 1
)

// nvmeCommand is struct nvme_admin_cmd.
type nvmeCommand struct {
	opcode, flags   uint8
	_               uint16
	_, _, _         uint32 // namespace, cdw2, cdw3
	_, address      uint64 // metadata, data
	_, length       uint32
	cdw10           uint32
	_, _, _, _, _   uint32
	timeout, result uint32
}

// Identify asks the controller of an NVMe disk for its identity. It needs root.
func Identify(node string) (Controller, error) {
	f, err := os.OpenFile(node, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Controller{}, fmt.Errorf("cannot ask an NVMe controller: %w", err)
	}
	defer f.Close()
	answer := make([]byte, identifySize)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&answer[0])
	command := nvmeCommand{
		opcode: opIdentify, cdw10: cnsController,
		address: uint64(uintptr(unsafe.Pointer(&answer[0]))), length: identifySize,
	}
	if err := ioctl(f, nvmeAdminCommand, unsafe.Pointer(&command)); err != nil {
		return Controller{}, fmt.Errorf("cannot ask the NVMe controller of %s: %w", node, err)
	}
	return ParseController(answer)
}
