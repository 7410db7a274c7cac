//go:build linux

package holders

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func TestSocketsOn(t *testing.T) {
	dir := testdir.New(t)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	before, err := socketsOn(map[uint64]bool{st.Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	raw, err := listener.(*net.UnixListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var inode uint64
	err = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil {
			inode = st.Ino
		}
	})
	if err != nil || inode == 0 || before[inode] {
		t.Fatalf("the socket is %d, %v, and was there before: %v", inode, err, before[inode])
	}
	after, err := socketsOn(map[uint64]bool{st.Dev: true})
	if err != nil || !after[inode] {
		t.Errorf("the sockets are %v, %v, want %d among them", after, err, inode)
	}
	none, err := socketsOn(map[uint64]bool{unix.Mkdev(4000, 1): true})
	if err != nil || len(none) != 0 {
		t.Errorf("on a device that there is not: %v, %v", none, err)
	}
}

// socketReply is the kernel's response about one socket.
func socketReply(inode, device uint32) []byte {
	order := binary.NativeEndian
	size := unix.SizeofNlMsghdr + diagReplySize + unix.SizeofRtAttr + 8
	b := make([]byte, size)
	order.PutUint32(b, uint32(size))
	order.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	order.PutUint32(b[unix.SizeofNlMsghdr+4:], inode)
	attr := b[unix.SizeofNlMsghdr+diagReplySize:]
	order.PutUint16(attr, unix.SizeofRtAttr+8)
	order.PutUint16(attr[2:], diagAttrVFS)
	order.PutUint32(attr[unix.SizeofRtAttr+4:], device)
	return b
}

// FuzzReadSockets reads any datagram, and must find no socket that is not on the device.
func FuzzReadSockets(f *testing.F) {
	f.Add(socketReply(7, 8<<20|1))
	f.Add(socketReply(7, 8<<20|1)[:40])
	f.Add([]byte{16, 0, 0, 0, unix.NLMSG_DONE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, datagram []byte) {
		found := map[uint64]bool{}
		_, _ = readSockets(datagram, map[uint64]bool{unix.Mkdev(8, 1): true}, found)
		nowhere := map[uint64]bool{}
		_, _ = readSockets(datagram, nil, nowhere)
		if len(nowhere) > 0 {
			t.Errorf("found %v on no device", nowhere)
		}
	})
}

func TestReadSockets(t *testing.T) {
	found := map[uint64]bool{}
	datagram := append(socketReply(7, 8<<20|1), socketReply(8, 8<<20|2)...)
	done, err := readSockets(datagram, map[uint64]bool{unix.Mkdev(8, 1): true}, found)
	if done || err != nil || len(found) != 1 || !found[7] {
		t.Errorf("found %v, %v, %v", found, done, err)
	}
}
