// Package mountoptions parses the options of mount(8) into the flags and the data of
// mount(2).
//
// It knows the options that mount a file system. Bind mounts, remounts and propagation are
// errors; options for mount(8) itself, for systemd and for fstab are ignored.
package mountoptions
