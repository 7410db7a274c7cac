// Package rendezvous starts a keeper and connects it to its plugin: the same program again,
// with root's rights, through the user's command_wrapper if there is one.
//
// The plugin listens on a socket in a directory of its own and names it on the keeper's
// command line; both then verify the process at the other end by its user, as the kernel
// knows it, and the keeper by a secret as well. The result is a connection for package
// wire. It decides nothing about mounts. For a helper process that needs no rights of root,
// a pipe is enough.
package rendezvous

import "errors"

// ErrNotRoot is wrapped by errors about missing rights of root.
var ErrNotRoot = errors.New("a chroot build needs root")

// Arg is the first argument of this program if it is started as a keeper. The second one
// is the argument of Join.
const Arg = "keep-chroot"
