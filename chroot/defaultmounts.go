package chroot

// This file, environment.go and package namespace list everything that commands in a chroot
// share with the host. docs/design.md, "Resources that the host shares with the chroot", gives
// the reasons.

// DefaultMounts returns the file systems that are mounted below a root if the user
// lists none.
//
// /dev is the host's own, so that every disk of the build is there, but it is mounted
// read-only: devices can be read and written, and no node can be created, changed or
// removed. A root that has no shell yet gets a copy of /dev until the first command runs
// in it, so that tar(1) or debootstrap(8) can unpack one there. /dev/pts and /dev/shm are
// separate from the host's. gid 5 is the group tty wherever glibc is used. A kernel may
// lack binfmt_misc; the image does not need it.
func DefaultMounts() []Submount {
	return []Submount{
		{Type: "proc", Source: "proc", Target: "/proc"},
		{Type: "sysfs", Source: "sysfs", Target: "/sys"},
		{Type: bind, Source: "/dev", Target: "/dev", Options: []string{"ro"}, CopyFirst: true},
		{Type: "devpts", Source: "devpts", Target: "/dev/pts", Optional: true,
			Options: []string{"nosuid,noexec,newinstance,gid=5,mode=620,ptmxmode=666"}},
		{Type: "tmpfs", Source: "tmpfs", Target: "/dev/shm", Optional: true, Options: []string{"nosuid,nodev,mode=1777"}},
		{Type: "binfmt_misc", Source: "binfmt_misc", Target: "/proc/sys/fs/binfmt_misc", Optional: true},
	}
}

// bind is the type of a Submount that shows a directory of the host.
const bind = "bind"
