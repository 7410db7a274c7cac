// Package qemu boots a disk in a virtual machine and reads its serial console, to
// see that an image starts. It is no way to run a machine that is worked with: there
// is no network, and the machine ends with what is waited for.
package qemu
