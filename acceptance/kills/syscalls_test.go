package kills

import (
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// watched is a system call that can change something on the host.
type watched struct {
	name string
	nr   uintptr
	// object returns the object of the call, or "" if the call is not of interest.
	object func(stop) string
	// arg is an argument that must compare as one of these; without any, all calls are
	// looked at.
	arg      uint32
	compares []comparison
}

// comparison is a compare instruction of the kernel's filters with its operand.
type comparison struct {
	code uint16
	with uint32
}

const (
	equals = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	hasBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
)

// requests are the ioctls that change something.
var requests = map[uint32]string{
	unix.BLKPG: "BLKPG", unix.BLKFLSBUF: "BLKFLSBUF", unix.LOOP_CONFIGURE: "LOOP_CONFIGURE", unix.LOOP_CLR_FD: "LOOP_CLR_FD",
	uint32(unix.FS_IOC_SETFLAGS): "FS_IOC_SETFLAGS",
}

// watch are the system calls that are stopped at.
var watch = []watched{
	{name: "mount", nr: unix.SYS_MOUNT, object: func(s stop) string { return s.path(unix.AT_FDCWD, 1) + mountFlags(s.args[3]) }},
	{name: "umount", nr: unix.SYS_UMOUNT2, object: func(s stop) string { return s.path(unix.AT_FDCWD, 0) }},
	{name: "fsmount", nr: unix.SYS_FSMOUNT, object: func(stop) string { return "a disk to look at" }},
	{name: "mkdir", nr: unix.SYS_MKDIRAT, object: func(s stop) string { return s.pathAt(0, 1) }},
	{name: "unlink", nr: unix.SYS_UNLINKAT, object: func(s stop) string { return s.pathAt(0, 1) }},
	{name: "rename", nr: unix.SYS_RENAMEAT, object: stop.twoPaths},
	{name: "rename", nr: unix.SYS_RENAMEAT2, object: stop.twoPaths},
	{name: "link", nr: unix.SYS_LINKAT, object: stop.twoPaths},
	{name: "symlink", nr: unix.SYS_SYMLINKAT, object: func(s stop) string { return s.pathAt(1, 2) }},
	{name: "mknod", nr: unix.SYS_MKNODAT, object: func(s stop) string { return s.pathAt(0, 1) }},
	{name: "bind", nr: unix.SYS_BIND, object: stop.socket},
	{name: "chmod", nr: unix.SYS_FCHMODAT, object: func(s stop) string { return s.pathAt(0, 1) }},
	{name: "chmod", nr: unix.SYS_FCHMOD, object: stop.open},
	{name: "chown", nr: unix.SYS_FCHOWNAT, object: func(s stop) string { return s.pathAt(0, 1) }},
	{name: "chown", nr: unix.SYS_FCHOWN, object: stop.open},
	{name: "create", nr: unix.SYS_OPENAT, arg: 2, compares: []comparison{{hasBit, unix.O_CREAT}}, object: func(s stop) string { return s.pathAt(0, 1) }},
	{name: "create", nr: unix.SYS_OPENAT2, object: stop.created},
	{name: "flock", nr: unix.SYS_FLOCK, object: stop.open},
	{name: "sync", nr: unix.SYS_FDATASYNC, object: stop.open},
	{name: "sync", nr: unix.SYS_FSYNC, object: stop.open},
	{name: "sync", nr: unix.SYS_SYNCFS, object: stop.open},
	{name: "truncate", nr: unix.SYS_FTRUNCATE, object: stop.open},
	{name: "write", nr: unix.SYS_PWRITE64, object: stop.record},
	{name: "write", nr: unix.SYS_WRITE, object: func(s stop) string { return s.only("/cgroup.") }},
	{name: "ioctl", nr: unix.SYS_IOCTL, arg: 1, compares: equalTo(maps.Keys(requests)), object: func(s stop) string {
		return requests[uint32(s.args[1])] + " " + s.open()
	}},
	{name: "signal", nr: unix.SYS_KILL, object: func(s stop) string { return unix.SignalName(syscall.Signal(s.args[1])) }},
	{name: "signal", nr: unix.SYS_PIDFD_SEND_SIGNAL, object: func(s stop) string { return unix.SignalName(syscall.Signal(s.args[1])) }},
	{name: "exec", nr: unix.SYS_EXECVE, object: func(s stop) string { return filepath.Base(s.text(0)) }},
}

func equalTo(values iter.Seq[uint32]) (all []comparison) {
	for v := range values {
		all = append(all, comparison{equals, v})
	}
	return all
}

func mountFlags(flags uint64) string {
	if flags&unix.MS_PRIVATE != 0 {
		return " as private"
	}
	return ""
}

// seccompProgram is a filter that stops at the watched calls, as BPF instructions; see seccomp(2).
func seccompProgram() (program []unix.SockFilter) {
	for _, w := range watch {
		answer := w.answer()
		program = append(program, load(0), unix.SockFilter{Code: equals, K: uint32(w.nr), Jf: uint8(len(answer))})
		program = append(program, answer...)
	}
	return append(program, answers(unix.SECCOMP_RET_ALLOW))
}

// answer returns the filter's instructions for the call.
func (w watched) answer() []unix.SockFilter {
	if len(w.compares) == 0 {
		return []unix.SockFilter{answers(unix.SECCOMP_RET_TRACE)}
	}
	const args = 16 // their offset in struct seccomp_data; the low half of each is first
	answer := []unix.SockFilter{load(args + 8*w.arg)}
	for _, c := range w.compares {
		answer = append(answer, unix.SockFilter{Code: c.code, K: c.with, Jf: 1}, answers(unix.SECCOMP_RET_TRACE))
	}
	return append(answer, answers(unix.SECCOMP_RET_ALLOW))
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func answers(with uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: with}
}

// stop is a thread that is about to make a system call.
type stop struct {
	box  string
	tid  int
	args [6]uint64
}

// text reads a string of the thread's.
func (s stop) text(arg int) string {
	return string(s.memory(s.args[arg], unix.PathMax, true))
}

// memory reads some bytes of the thread's, or up to the end of a text, in parts that do
// not go on into a page that may not be there.
func (s stop) memory(at uint64, size int, isText bool) (all []byte) {
	for len(all) < size {
		part := make([]byte, min(size-len(all), 256-int(at%256)))
		n, err := unix.ProcessVMReadv(s.tid, []unix.Iovec{{Base: &part[0], Len: uint64(len(part))}}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(part)}}, 0)
		if err != nil || n <= 0 {
			break
		}
		if end := slices.Index(part[:n], 0); isText && end >= 0 {
			return append(all, part[:end]...)
		}
		all, at = append(all, part[:n]...), at+uint64(n)
	}
	return all
}

func (s stop) link(of string) string {
	target, _ := os.Readlink(fmt.Sprintf("/proc/%d/%s", s.tid, of))
	return strings.TrimSuffix(target, " (deleted)")
}

// open is the file that the first argument is a descriptor of.
func (s stop) open() string { return s.link(fmt.Sprintf("fd/%d", int32(s.args[0]))) }

// only is that file, if its name holds a text.
func (s stop) only(text string) string {
	if name := s.open(); strings.Contains(name, text) {
		return name
	}
	return ""
}

// saying matches the verb and the kind of act in a journal record.
var saying = regexp.MustCompile(`"(?:verb|kind)":"([\w ]+)"`)

// record returns the journal record that is written.
func (s stop) record() string {
	name := s.only(".journal")
	if name == "" {
		return ""
	}
	says := []string{name}
	for _, match := range saying.FindAllSubmatch(s.memory(s.args[1], int(s.args[2]), false), -1) {
		says = append(says, string(match[1]))
	}
	return strings.Join(says, " ")
}

// pathAt is the path that one argument names in the directory that another one is.
func (s stop) pathAt(dir, arg int) string { return s.path(int32(s.args[dir]), arg) }

func (s stop) twoPaths() string { return s.pathAt(0, 1) + " to " + s.pathAt(2, 3) }

func (s stop) path(dir int32, arg int) string {
	path := s.text(arg)
	if of, ok := strings.CutPrefix(path, "/proc/self/"); ok {
		return s.link(of)
	}
	switch {
	case strings.HasPrefix(path, "/") && dir != unix.AT_FDCWD:
		return s.link(fmt.Sprintf("fd/%d", dir)) + path // as in openat2, of a root
	case strings.HasPrefix(path, "/"):
		return path
	case dir == unix.AT_FDCWD:
		return filepath.Join(s.link("cwd"), path)
	}
	return filepath.Join(s.link(fmt.Sprintf("fd/%d", dir)), path)
}

// created returns the path that an openat2 creates.
func (s stop) created() string {
	how := s.memory(s.args[2], 8, false)
	if len(how) < 8 || binary.NativeEndian.Uint64(how)&unix.O_CREAT == 0 {
		return ""
	}
	return s.pathAt(0, 1)
}

// socket is the name that a Unix socket is given.
func (s stop) socket() string {
	name := s.memory(s.args[1], int(s.args[2]), false)
	if len(name) < 3 || binary.NativeEndian.Uint16(name) != unix.AF_UNIX {
		return ""
	}
	path := strings.TrimRight(string(name[2:]), "\x00")
	if rest, ok := strings.CutPrefix(path, "/proc/self/fd/"); ok {
		fd, file, _ := strings.Cut(rest, "/")
		return filepath.Join(s.link("fd/"+fd), file)
	}
	return path
}

// noise matches the objects of calls by Go's runtime and Packer's SDK.
var noise = regexp.MustCompile(`^(/proc/|/dev/null|…/tmp/packer-plugin|socket:|pipe:|anon_inode:|/memfd:)`)

// another are the parts of names that are others in every build.
var another = []struct {
	is   *regexp.Regexp
	says string
}{
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "BUILD"},
	{regexp.MustCompile(`^/sys/fs/cgroup/.*packer-chroot-\d+-\d+-`), "CGROUP-"},
	{regexp.MustCompile(`(/tmp/packer-chroot-\D*)\d+`), "${1}N"},
	{regexp.MustCompile(`script_\d+`), "script_N"},
	{regexp.MustCompile(`vol-\w+`), "VOLUME"},
	{regexp.MustCompile(`/cache/s-\w+/[0-9a-f]+\b`), "/cache/SOURCE/BLOCK"},
	{regexp.MustCompile(`/cache/s-\w+`), "/cache/SOURCE"},
	{regexp.MustCompile(`/dev/(xvd|sd)[a-z]+`), "/dev/${1}X"},
	{regexp.MustCompile(`\bdevice-[a-z]+`), "device-X"},
	{regexp.MustCompile(`loop\d+`), "loopN"},
}

// plain is a name as it is in every build.
func (s stop) plain(name string) string {
	name = strings.ReplaceAll(name, s.box, "…")
	for _, a := range another {
		name = a.is.ReplaceAllString(name, a.says)
	}
	return name
}
