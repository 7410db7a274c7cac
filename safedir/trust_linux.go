package safedir

import (
	"os"
	"strconv"
	"sync/atomic"
)

// served is the ID of the user that Trust named, plus one; 0 is none.
var served atomic.Uint64

// Trust adds a trusted user, for whom this process acts with root privileges. That user can
// do everything that this process does, so the user's directories are as safe as root's.
func Trust(uid uint32) { served.Store(uint64(uid) + 1) }

// trusted reports whether a user is trusted.
func trusted(uid uint32) bool {
	return uid == 0 || int64(uid) == int64(os.Geteuid()) || uint64(uid)+1 == served.Load() || invoker(uid)
}

// invoker reports whether a user started this process, which has root privileges, with sudo.
// Only root or sudo can set SUDO_UID for a process of root.
func invoker(uid uint32) bool {
	return os.Geteuid() == 0 && os.Getenv("SUDO_UID") == strconv.FormatUint(uint64(uid), 10)
}
