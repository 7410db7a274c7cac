package procfs

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Processes returns the ids of all processes, in ascending order.
func Processes() []int {
	var pids []int
	for _, name := range Names("/proc") {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Names returns the names in a directory of /proc or /sys, and none if it is gone.
func Names(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	return names
}

// The fields of /proc/PID/stat that are read, counted from the third one on.
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
const (
	stateField = 0
	startField = 19
)

// stat returns the fields of a process's stat from the third one on. The second field is
// the program's name in parentheses, which may hold any bytes.
func stat(pid int) ([][]byte, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) <= startField {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return fields, nil
}

// StartTime returns the time at which a process was started, in clock ticks since the
// boot. A process that has ended and was not waited for counts as gone: it has no files
// open.
func StartTime(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	if state := string(fields[stateField]); state == "Z" || state == "X" {
		return 0, os.ErrNotExist
	}
	return strconv.ParseUint(string(fields[startField]), 10, 64)
}

// IsStopped reports whether a signal or a tracer has stopped a process.
func IsStopped(pid int) bool {
	fields, err := stat(pid)
	return err == nil && strings.ContainsAny(string(fields[stateField]), "Tt")
}

// Parent returns the id of a process's parent; 0 is none.
func Parent(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if id, ok := strings.CutPrefix(line, "PPid:"); ok {
			parent, _ := strconv.Atoi(strings.TrimSpace(id))
			return parent
		}
	}
	return 0
}

// Arguments returns the command line of a process; it is empty if that is unknown.
func Arguments(pid int) []string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil
	}
	return strings.Split(string(line), "\x00")
}

// Describe returns the id and the command line of a process, for a message.
func Describe(pid int) string {
	return fmt.Sprintf("process %d (%s)", pid, commandLine(pid))
}

// commandLine returns the command line of a process as one short line.
func commandLine(pid int) string {
	const longest = 160
	dir := "/proc/" + strconv.Itoa(pid)
	line, err := os.ReadFile(dir + "/cmdline")
	if line = bytes.TrimRight(line, "\x00"); err != nil || len(line) == 0 {
		line, _ = os.ReadFile(dir + "/comm")
	}
	line = bytes.ReplaceAll(bytes.TrimSpace(line), []byte{0}, []byte{' '})
	more := ""
	if len(line) > longest {
		line, more = line[:longest], "..."
	}
	quoted := strconv.Quote(string(line))
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) + more
}

// BootID returns the kernel's id of the present boot.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// Set is a set of processes: the start time of each, by its id. A later process that has
// the same id is not in it.
type Set map[int]string

// Ancestors returns this process and its parents, up to the first process.
func Ancestors() Set {
	s := Set{1: started(1)}
	for pid := os.Getpid(); pid > 0 && s[pid] == ""; pid = Parent(pid) {
		s[pid] = started(pid)
	}
	return s
}

// Has reports whether a process is in the set.
func (s Set) Has(pid int) bool {
	start, known := s[pid]
	return known && start == started(pid)
}

// started returns the start time of a process as the kernel writes it, of one that was not
// waited for too.
func started(pid int) string {
	fields, err := stat(pid)
	if err != nil {
		return "unknown"
	}
	return string(fields[startField])
}
