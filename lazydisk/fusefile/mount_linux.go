package fusefile

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// detached returns the descriptor of a new mount of a file system type that has no path.
func detached(fstype string, options [][2]string) (*os.File, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot open file system type %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return nil, fmt.Errorf("cannot set %s=%s of %s: %w", o[0], o[1], fstype, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("cannot create a mount of %s: %w", fstype, err)
	}
	const attributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, fmt.Errorf("cannot mount %s: %w", fstype, err)
	}
	return os.NewFile(uintptr(mount), fstype), nil
}

// mountFuse returns an open FUSE device and the detached mount that it serves.
func mountFuse() (device int, mount *os.File, err error) {
	device, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot open /dev/fuse: %w", err)
	}
	mount, err = detached("fuse", [][2]string{
		{"source", "packer-chroot"},
		{"fd", strconv.Itoa(device)},
		{"rootmode", strconv.FormatUint(unix.S_IFDIR, 8)},
		{"user_id", strconv.Itoa(os.Geteuid())},
		{"group_id", strconv.Itoa(os.Getegid())},
		{"max_read", strconv.Itoa(maxRequest)},
	})
	if err != nil {
		unix.Close(device)
	}
	return device, mount, err
}

// Open opens the served file for reading and writing.
func Open(mount *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(mount.Fd()), name, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Connection aborts a FUSE connection. It does not keep the connection open. The kernel gives the number of an ended connection
// to the next one, so the connection is identified by its open control file.
type Connection struct {
	number uint32
	abort  *os.File
}

// ConnectionOf returns the connection of an open mount. It makes no request to the serving process.
func ConnectionOf(mount *os.File) (*Connection, error) {
	var st unix.Statx_t
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	if err := unix.Statx(int(mount.Fd()), "", flags, 0, &st); err != nil {
		return nil, os.NewSyscallError("statx", err)
	}
	control, err := detached("fusectl", nil)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	// the kernel's own encoding of device numbers, which differs from that of unix.Mkdev from the minor number 256 on
	number := st.Dev_major<<20 | st.Dev_minor
	path := fmt.Sprintf("%d/abort", number)
	fd, err := unix.Openat(int(control.Fd()), path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "fusectl " + path, Err: err}
	}
	return &Connection{number, os.NewFile(uintptr(fd), path)}, nil
}

// Number returns the kernel's number of the connection.
func (c *Connection) Number() uint32 { return c.number }

// Abort ends the connection: all its requests fail at once. It returns nil if the connection has already ended.
func (c *Connection) Abort() error {
	if _, err := c.abort.Write([]byte("1")); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("cannot abort FUSE connection %d: %w", c.number, err)
	}
	return nil
}

// Close releases the control file. Abort does nothing afterwards.
func (c *Connection) Close() error { return c.abort.Close() }
