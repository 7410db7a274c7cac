// Package selinux examines the SELinux labels of an image: whether its files need labels, and
// which files that were created during a build have none.
//
// It sets no labels, because only the image's own policy defines them. On a host that uses
// SELinux, the kernel labels new files, and there is nothing to examine.
package selinux
