// Package mounttable answers questions about the kernel's mount table that need more than
// its lines: which file system a mount shows, which mounts in other namespaces are copies
// of a root's, and which mount a path leads to now.
//
// It unmounts single mounts and copies in other namespaces; the order in which a root is
// left is package chroot's. To read the table only, use moby/sys/mountinfo.
package mounttable
