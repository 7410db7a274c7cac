// Package mounttable examines mounts: the file system that a mount shows, the copies of a
// root's mounts in other mount namespaces, and the mount that a path leads to.
//
// It unmounts single mounts, and copies in other namespaces. Package chroot decides the order
// in which a root is left. To read the mount table only, use moby/sys/mountinfo.
package mounttable
