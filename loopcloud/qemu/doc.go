// Package qemu boots a disk in a virtual machine and reads its serial console, to check that an
// image boots. The machine has no network, and ends when the awaited text appears.
package qemu
