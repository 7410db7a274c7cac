// Package loopdev attaches files to loop devices, and lists the devices that have a file.
//
// It does not detach devices: whether that waits for the users of a device, and removes its
// partitions, depends on the owner of the device.
package loopdev
