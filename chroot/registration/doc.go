// Package registration finds and removes the kernel's registrations by the path of a file:
// binfmt_misc entries and uprobes. They keep the file's mount in use without a process.
//
// It compares with the registrations from before a root was mounted, and removes only those
// that are shown to be of the root, for the others are the host's. Processes, loop devices
// and swap files are package holders'.
package registration
