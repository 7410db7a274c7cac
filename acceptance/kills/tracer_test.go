package kills

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
)

// The test program starts itself as a tracer, and once more as the process that becomes Packer: a tracer must have no
// other children.
const (
	traceArg  = "trace-acts"
	becomeArg = "become-traced"
)

// order is the task of a tracer.
type order struct {
	// Box is the directory of the box, which names are told without.
	Box string
	// Report is a file for sightings, one a line.
	Report string
	// Act is the local act, Skip the number of such acts to pass, When the side of it, and Target the processes to kill. Without an
	// act no process is killed.
	Act    string
	Skip   int
	When   string
	Target harness.Target
}

// sighting is an entry of a tracer's report: a local act that has ended, after Skip others like it, a keeper, a direct
// disk, or the fulfilled order.
type sighting struct {
	Act    string `json:",omitempty"`
	Skip   int    `json:",omitempty"`
	Failed bool   `json:",omitempty"`
	Keeper int    `json:",omitempty"`
	Disk   string `json:",omitempty"`
	Killed bool   `json:",omitempty"`
}

// maybeTrace is a tracer's, or a tracee's, whole life. Otherwise it returns.
func maybeTrace() {
	if len(os.Args) < 3 {
		return
	}
	var err error
	switch os.Args[1] {
	case traceArg:
		var o order
		if err = json.Unmarshal([]byte(os.Args[2]), &o); err == nil {
			err = o.trace(os.Args[3:])
		}
	case becomeArg:
		err = become(os.Args[2:])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "trace:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// become has the kernel stop this process, and all that come of it, at the system
// calls that can be local acts, and becomes the program.
func become(args []string) error {
	runtime.LockOSThread()
	program := seccompProgram()
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	const setModeFilter = 1
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, setModeFilter, 0, uintptr(unsafe.Pointer(&filter))); errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return syscall.Exec(args[0], args, os.Environ())
}

// The processes of a build. The command reap counts as its plugin.
const (
	pluginRole = "plugin"
	keeperRole = "keeper"
	serverRole = "block server"
	packerRole = "Packer"
)

// tracer follows a build.
type tracer struct {
	order
	program string
	report  *json.Encoder
	// roles are the processes', by their ids; others have none.
	roles map[int]string
	// seen are the threads that have been let go once.
	seen map[int]bool
	// doing are the acts of threads, until they have ended.
	doing map[int]sighting
	times map[string]int
	done  bool
}

// trace runs Packer and follows it, its plugin and its keeper until they have ended. Processes that users have started
// run on. An error says how Packer failed.
func (o order) trace(args []string) error {
	runtime.LockOSThread()
	file, err := os.Create(o.Report)
	if err != nil {
		return err
	}
	defer file.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	first, err := syscall.ForkExec(self, append([]string{self, becomeArg}, args...), &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		return err
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(first, &status, 0, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(first, unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_TRACEFORK|unix.PTRACE_O_TRACEVFORK|
		unix.PTRACE_O_TRACEEXEC|unix.PTRACE_O_TRACESECCOMP|unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return err
	}
	t := &tracer{order: o, program: args[0], report: json.NewEncoder(file), roles: map[int]string{first: packerRole}, seen: map[int]bool{first: true},
		doing: map[int]sighting{}, times: map[string]int{}}
	_ = unix.PtraceCont(first, 0)
	return t.follow(first)
}

// follow serves all stops until no process of the build is left.
func (t *tracer) follow(first int) (how error) {
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return how
		case status.Stopped():
			t.stopped(tid, status)
		default:
			delete(t.roles, tid)
			if tid == first && status != 0 {
				how = fmt.Errorf("%s ended with status %#x", t.program, int(status))
			}
			if t.over() {
				return how
			}
		}
	}
}

// over reports whether all processes of the build have ended.
func (t *tracer) over() bool {
	for _, role := range t.roles {
		if role != "" {
			return false
		}
	}
	return true
}

// stopped looks at a thread that has stopped, and lets it go on. One that was killed
// meanwhile needs neither.
func (t *tracer) stopped(tid int, status unix.WaitStatus) {
	sig := status.StopSignal()
	switch {
	case sig == unix.SIGTRAP|0x80:
		t.ends(tid)
	case sig == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_SECCOMP:
		t.begins(tid)
	case sig == unix.SIGTRAP && status.TrapCause() == unix.PTRACE_EVENT_EXEC:
		t.becomes(tid)
	case sig == unix.SIGTRAP && status.TrapCause() > 0:
	case sig == unix.SIGSTOP && !t.seen[tid]: // how a new thread begins
	default:
		_ = unix.PtraceCont(tid, int(sig))
		return
	}
	t.seen[tid] = true
	if _, doing := t.doing[tid]; doing {
		_ = unix.PtraceSyscall(tid, 0)
		return
	}
	_ = unix.PtraceCont(tid, 0)
}

// becomes determines the program that a process has executed.
func (t *tracer) becomes(pid int) {
	exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	args := strings.Split(harness.Read(fmt.Sprintf("/proc/%d/cmdline", pid)), "\x00")
	name := filepath.Base(exe)
	t.roles[pid] = ""
	switch {
	case harness.IsPacker(exe):
		t.roles[pid] = packerRole
	case strings.HasPrefix(name, "packer-plugin-") && len(args) > 1 && (args[1] == "start" || args[1] == "reap"):
		t.roles[pid] = pluginRole
	case strings.HasPrefix(name, "packer-plugin-") && len(args) > 1 && args[1] == "keep-chroot":
		t.roles[pid] = keeperRole
		t.tell(sighting{Keeper: pid})
	case strings.HasPrefix(name, "packer-plugin-") && len(args) > 2 && args[1] == harness.ServeDisk:
		t.roles[pid] = serverRole
		t.tell(sighting{Disk: args[2]})
	}
}

func (t *tracer) tell(s sighting) { _ = t.report.Encode(s) }

// statusOf reads a number of a thread's status.
func statusOf(tid int, name string) int {
	_, after, _ := strings.Cut(harness.Read(fmt.Sprintf("/proc/%d/status", tid)), "\n"+name+":")
	line, _, _ := strings.Cut(after, "\n")
	n, _ := strconv.Atoi(strings.TrimSpace(line))
	return n
}

// role returns the role of a thread. Before it executes a program, a child has its parent's role.
func (t *tracer) role(tid int) string {
	pid := statusOf(tid, "Tgid")
	if role, known := t.roles[pid]; known {
		return role
	}
	if role := t.roles[statusOf(pid, "PPid")]; role != "" {
		return role + "'s child"
	}
	return ""
}

// syscallInfo is struct ptrace_syscall_info; ptrace(2).
type syscallInfo struct {
	_ [24]byte
	// nr is the number of the call, and the result at its end.
	nr   uint64
	args [6]uint64
	_    uint64
}

func infoOf(tid int) (info syscallInfo, ok bool) {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0)
	return info, errno == 0
}

// begins looks at a call that is about to take place.
func (t *tracer) begins(tid int) {
	role := t.role(tid)
	if !strings.HasPrefix(role, pluginRole) && !strings.HasPrefix(role, keeperRole) && !strings.HasPrefix(role, serverRole) {
		return
	}
	info, ok := infoOf(tid)
	if !ok {
		return
	}
	i := slices.IndexFunc(watch, func(w watched) bool { return uint64(w.nr) == info.nr })
	s := stop{t.Box, tid, info.args}
	object := s.plain(watch[i].object(s))
	if object == "" || noise.MatchString(object) {
		return
	}
	act := sighting{Act: role + " " + watch[i].name + " " + object}
	act.Skip = t.times[act.Act]
	t.times[act.Act]++
	t.doing[tid] = act
	t.maybeKill(act, "before")
}

// ends reports a call that has taken place.
func (t *tracer) ends(tid int) {
	act, known := t.doing[tid]
	info, ok := infoOf(tid)
	if !known || !ok {
		return
	}
	delete(t.doing, tid)
	act.Failed = int64(info.nr) < 0
	t.tell(act)
	t.maybeKill(act, "after")
}

// maybeKill kills the target processes if this is the ordered act, or all processes if none of them runs. It kills the keeper
// first, before it can begin to leave.
func (t *tracer) maybeKill(act sighting, when string) {
	if t.done || act.Act != t.Act || act.Skip != t.Skip || when != t.When {
		return
	}
	t.done = true
	kinds := map[harness.Target][]string{harness.KillPlugin: {pluginRole}, harness.KillPluginAndKeeper: {keeperRole, pluginRole}, harness.KillKeeper: {keeperRole}, harness.KillServer: {serverRole}, harness.KillPacker: {packerRole}}[t.Target]
	if t.killEach(kinds) == 0 {
		t.killEach([]string{keeperRole, pluginRole, serverRole, packerRole})
	}
	t.tell(sighting{Killed: true})
}

func (t *tracer) killEach(kinds []string) (n int) {
	for _, kind := range kinds {
		for pid, role := range t.roles {
			if role == kind && unix.Kill(pid, unix.SIGKILL) == nil {
				n++
			}
		}
	}
	return n
}
