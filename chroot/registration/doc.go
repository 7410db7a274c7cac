// Package registration finds and removes binfmt_misc entries and uprobes. The kernel registers
// them by the path of a file, and they keep the file's mount in use without a process.
//
// It compares them with the registrations from before the root was mounted, and removes only
// those that are shown to belong to the root, because the others are the host's. Processes,
// loop devices and swap files are handled by package holders.
package registration
