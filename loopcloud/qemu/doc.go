// Package qemu boots a disk in a virtual machine and reads its serial console, to check that an
// image boots. It is not for machines to work with: there is no network, and the machine ends
// when the awaited text appears.
package qemu
