package holders

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The layout of linux/unix_diag.h and linux/sock_diag.h, which has been the same
// since Linux 3.3.
const (
	diagRequestSize = 24
	diagReplySize   = 16
	diagShowVFS     = 2 // UDIAG_SHOW_VFS
	diagAttrVFS     = 1 // UNIX_DIAG_VFS
)

// socketsOn returns the inodes of the Unix sockets of this network namespace whose names are
// on one of the devices: a name keeps its file system in use. It returns none if the kernel
// does not list sockets.
func socketsOn(devices map[uint64]bool) (map[uint64]bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	limit := unix.NsecToTimeval(int64(time.Second))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, err
	}
	if err := unix.Sendto(fd, socketQuery(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("sendto", err)
	}
	found := map[uint64]bool{}
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list Unix sockets: %w", err)
		}
		done, err := readSockets(buffer[:n], devices, found)
		if done || err != nil {
			return found, err
		}
	}
}

// socketQuery returns a request for all Unix sockets and the places of their names.
func socketQuery() []byte {
	const size = unix.SizeofNlMsghdr + diagRequestSize
	q := make([]byte, size)
	order := binary.NativeEndian
	order.PutUint32(q[0:], size)
	order.PutUint16(q[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint16(q[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	q[unix.SizeofNlMsghdr] = unix.AF_UNIX
	order.PutUint32(q[unix.SizeofNlMsghdr+4:], ^uint32(0)) // in any state
	order.PutUint32(q[unix.SizeofNlMsghdr+12:], diagShowVFS)
	return q
}

// readSockets adds the sockets of one datagram of the answer, and reports whether it was the
// last one.
func readSockets(datagram []byte, devices, found map[uint64]bool) (done bool, err error) {
	messages, err := syscall.ParseNetlinkMessage(datagram)
	if err != nil {
		return false, fmt.Errorf("cannot list Unix sockets: %w", err)
	}
	for _, m := range messages {
		switch {
		case m.Header.Type == unix.NLMSG_DONE || m.Header.Type == unix.NLMSG_ERROR:
			return true, nil // an error: a kernel without unix_diag
		case len(m.Data) >= diagReplySize && devices[nameDevice(m.Data[diagReplySize:])]:
			found[uint64(binary.NativeEndian.Uint32(m.Data[4:]))] = true
		}
	}
	return false, nil
}

// nameDevice returns the device in the attributes of a socket; 0 is none.
func nameDevice(attrs []byte) uint64 {
	const header = unix.SizeofRtAttr
	for len(attrs) >= header {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < header || size > len(attrs) {
			return 0
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == diagAttrVFS && size >= header+8 {
			// the kernel's own form of a device number: 12 bits and 20
			device := binary.NativeEndian.Uint32(attrs[header+4:])
			return unix.Mkdev(device>>20, device&(1<<20-1))
		}
		attrs = attrs[min((size+3)&^3, len(attrs)):]
	}
	return 0
}
