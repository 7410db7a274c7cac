// Package loop attaches a file to a loop device, with direct I/O, and detaches it.
//
// The kernel detaches the device by itself when its last user closes it, so a killed process
// leaves no device behind. A device that is mounted ends with the mount. Do not use the package for
// a device that must outlive the process.
package loop
