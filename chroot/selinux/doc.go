// Package selinux examines the SELinux labels of an image: whether it needs them, and which
// files that a build has created have none.
//
// It sets no labels, because only the image's own policy knows them. On a host that uses
// SELinux itself there is nothing to examine.
package selinux
