// Package safedir opens directories and their files on paths that other users of the host
// may be able to change, for programs that run as root.
//
// A path such as /run/lock/packer-chroot leads through a directory in which every user
// may create names. Open and Make walk such a path one name at a time, each from the
// open directory before it. In a directory that others can write to, they accept only
// entries that belong to a trusted user: root, the user of this process, the user who
// started it with sudo, and the user that Trust names. The last directory must belong to
// a trusted user, must not be writable by others, and must not be a symbolic link. The
// result is an open directory, so later changes of names have no effect.
//
// Fixed is for a path that must keep leading to the same directory, such as a mount
// point: it fails if another user could replace a part of it.
package safedir
