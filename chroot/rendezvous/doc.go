// Package rendezvous starts a keeper and connects it to its plugin. The keeper is the same
// program, started with root privileges, through the user's command_wrapper if there is one.
//
// The plugin listens on a socket in its own directory and names it on the keeper's command
// line. Both verify the user of the process at the other end, as reported by the kernel, and
// the plugin also verifies the keeper's token. The result is a connection for package wire.
// The package does not mount. For a helper process without root privileges, use a pipe.
package rendezvous

import "errors"

// ErrNotRoot is wrapped by errors about missing rights of root.
var ErrNotRoot = errors.New("a chroot build needs root")

// Arg is the first argument of this program if it is started as a keeper. The second one
// is the argument of Join.
const Arg = "keep-chroot"
