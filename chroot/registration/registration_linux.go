package registration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/procfs"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/rootfs"
)

// registered is a registration in the kernel by the path of a file. It keeps the file's
// mount in use, without a process.
type registered interface {
	// id identifies it at any time.
	id() string
	// String describes it, and a command that removes it.
	String() string
}

// format is an entry of binfmt_misc.
// https://docs.kernel.org/admin-guide/binfmt-misc.html
type format struct {
	name, interpreter string
	// fixed reports whether it has the flag F: the kernel has the interpreter open.
	fixed bool
}

func (f format) id() string { return "binfmt_misc " + f.name }

func (f format) String() string {
	return fmt.Sprintf("the binfmt_misc entry %s with the interpreter %s (echo -1 > /proc/sys/fs/binfmt_misc/%s removes it)", f.name, f.interpreter, f.name)
}

// probe is a uprobe, registered in tracefs.
// https://docs.kernel.org/trace/uprobetracer.html
type probe struct{ name, path, line string }

func (p probe) id() string { return "uprobe " + p.name }

func (p probe) String() string {
	return fmt.Sprintf("the uprobe %s on %s (echo '-:%s' >> /sys/kernel/tracing/uprobe_events removes it)", p.name, p.path, p.name)
}

// kernelFiles is a file system of the kernel. It is opened without being mounted
// anywhere, so that it need not be mounted on the host.
type kernelFiles struct{ dir *os.File }

// openKernelFiles opens a file system of a type, or its usual mount point if the kernel
// cannot open one without mounting it (before Linux 5.2). It loads no module.
func openKernelFiles(kind, usual string) (kernelFiles, error) {
	types, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return kernelFiles{}, err
	}
	if !bytes.Contains(types, []byte("\t"+kind+"\n")) {
		return kernelFiles{}, os.ErrNotExist
	}
	if dir, err := detached(kind); err == nil {
		return kernelFiles{dir}, nil
	}
	dir, err := os.Open(usual)
	return kernelFiles{dir}, err
}

// detached opens the root directory of a file system that is mounted nowhere.
func detached(kind string) (*os.File, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, err
	}
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(mount)
	dir, err := unix.Openat(mount, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(dir), kind), nil
}

func (k kernelFiles) close() { k.dir.Close() }

// open opens a file. A name with slashes leads below the directory; no name is a link.
func (k kernelFiles) open(name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(int(k.dir.Fd()), name, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: k.dir.Name() + "/" + name, Err: err}
	}
	return os.NewFile(uintptr(fd), k.dir.Name()+"/"+name), nil
}

func (k kernelFiles) read(name string) (string, error) {
	f, err := k.open(name, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

func (k kernelFiles) write(name, text string) error {
	f, err := k.open(name, unix.O_WRONLY|unix.O_APPEND)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

func binfmtMisc() (kernelFiles, error) {
	return openKernelFiles("binfmt_misc", "/proc/sys/fs/binfmt_misc")
}

func tracing() (kernelFiles, error) { return openKernelFiles("tracefs", "/sys/kernel/tracing") }

// formats returns the entries of the host's binfmt_misc. Those of user namespaces (Linux
// 6.7) end with the processes in them.
func (k kernelFiles) formats() []format {
	if _, err := k.dir.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	names, _ := k.dir.Readdirnames(-1)
	slices.Sort(names)
	var found []format
	for _, name := range names {
		if name == "register" || name == "status" {
			continue
		}
		if text, err := k.read(name); err == nil {
			found = append(found, parseFormat(name, text))
		}
	}
	return found
}

// parseFormat parses an entry of binfmt_misc.
func parseFormat(name, text string) format {
	f := format{name: name}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if path, ok := strings.CutPrefix(line, "interpreter "); ok && f.interpreter == "" {
			f.interpreter = path
		}
		if flags, ok := strings.CutPrefix(line, "flags:"); ok {
			f.fixed = strings.Contains(flags, "F")
		}
	}
	return f
}

// probes returns the uprobes of tracefs.
func (k kernelFiles) probes() []probe {
	text, err := k.read("uprobe_events")
	if err != nil {
		return nil
	}
	var found []probe
	for line := range strings.Lines(text) {
		if p, ok := parseProbe(strings.TrimSuffix(line, "\n")); ok {
			found = append(found, p)
		}
	}
	return found
}

// parseProbe parses a line of uprobe_events: p[:GROUP/EVENT] PATH:OFFSET [ARGUMENTS]. The
// path is as it was given at the registration.
func parseProbe(line string) (probe, bool) {
	head, rest, ok := strings.Cut(line, " ")
	_, name, named := strings.Cut(head, ":")
	at := strings.LastIndex(rest, ":0x")
	if !ok || !named || !strings.Contains(name, "/") || at < 1 {
		return probe{}, false
	}
	return probe{name, rest[:at], line}, true
}

// Known returns the ids of the present registrations.
func Known() []string {
	known := []string{}
	if files, err := binfmtMisc(); err == nil {
		for _, f := range files.formats() {
			known = append(known, f.id())
		}
		files.close()
	}
	if files, err := tracing(); err == nil {
		for _, p := range files.probes() {
			known = append(known, p.id())
		}
		files.close()
	}
	return known
}

// Root holds the kernel's registrations by paths of files in a root.
type Root struct {
	// Path is the root's path on the host, and Name the same for messages.
	Path, Name string
	// Known are the ids of the registrations from before the root was mounted; nil if they
	// are not known.
	Known []string
	// Open opens the root.
	Open func() (*rootfs.Root, error)
	// Log is called with every registration that is removed.
	Log func(format string, args ...any)
}

// isNew reports whether a registration is not known from before the root was mounted.
func (r Root) isNew(x registered) bool { return !slices.Contains(r.Known, x.id()) }

// pathInside returns the path in the root that a registered path means to processes of
// the root, or to those of the host.
func (r Root) pathInside(path string) string {
	if path == r.Path || strings.HasPrefix(path, r.Path+"/") {
		return strings.TrimPrefix(path, r.Path)
	}
	return path
}

// RemoveFormats removes the binfmt_misc entries that a provisioner has registered with flag
// F and an interpreter of the image: the kernel has that open, and would run it for the
// host. Another new entry whose interpreter is only in the image is logged.
func (r Root) RemoveFormats() error {
	files, err := binfmtMisc()
	if err != nil {
		return nil // without binfmt_misc there are no entries
	}
	defer files.close()
	for _, f := range files.formats() {
		if !r.isNew(f) {
			continue
		}
		switch {
		case f.fixed && r.executes(f.interpreter):
			r.Log("removing the binfmt_misc entry %s: its interpreter %s is in %s", f.name, f.interpreter, r.Name)
			if err := files.write(f.name, "-1"); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		case !f.fixed && r.isOnlyInside(f.interpreter):
			r.Log("the host has a new entry in binfmt_misc that leads nowhere on the host: %s", f)
		}
	}
	return nil
}

// executes reports whether the kernel has a file of the root open for execution: it can
// then not be opened for writing. No process must run the file.
func (r Root) executes(path string) bool {
	in, err := r.Open()
	if err != nil {
		return false
	}
	defer in.Close()
	f, err := in.OpenFile(r.pathInside(path), unix.O_WRONLY)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, unix.ETXTBSY)
}

// isOnlyInside reports whether the root has a file at a path, and the host has none.
func (r Root) isOnlyInside(path string) bool {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return false
	}
	return r.has(path)
}

// has reports whether the root has something at a path.
func (r Root) has(path string) bool {
	in, err := r.Open()
	if err != nil {
		return false
	}
	defer in.Close()
	f, _, err := in.OpenPath(r.pathInside(path))
	if err == nil {
		f.Close()
	}
	return err == nil
}

// RemoveProbes removes new uprobes on a path that the root has, one by one, until the root
// can be unmounted, which free reports. A probe after whose removal it cannot is registered
// again, for it may be the host's.
func (r Root) RemoveProbes(free func() bool) error {
	if r.Known == nil {
		return nil
	}
	files, err := tracing()
	if err != nil {
		return nil // without tracefs there are no probes
	}
	defer files.close()
	for _, p := range files.probes() {
		if !r.isNew(p) || !r.has(p.path) {
			continue
		}
		enable := filepath.Join("events", p.name, "enable")
		was, err := files.read(enable)
		if err == nil && strings.HasPrefix(was, "1") {
			err = files.write(enable, "0")
		}
		if err != nil || files.write("uprobe_events", "-:"+p.name+"\n") != nil {
			continue // it is in use: the error names it
		}
		if free() {
			r.Log("removed %s: it held %s", p, r.Name)
			return nil
		}
		_ = files.write("uprobe_events", p.line+"\n")
		_ = files.write(enable, strings.TrimSpace(was))
	}
	return nil
}

// Suspects returns the registrations and processes that may hold a root if no known holder
// is found, for an error.
func (r Root) Suspects() []string {
	var found []string
	if r.Known == nil {
		return nil
	}
	if files, err := binfmtMisc(); err == nil {
		for _, f := range files.formats() {
			if f.fixed && r.isNew(f) {
				found = append(found, "perhaps "+f.String())
			}
		}
		files.close()
	}
	if files, err := tracing(); err == nil {
		for _, p := range files.probes() {
			if r.isNew(p) && r.has(p.path) {
				found = append(found, "perhaps "+p.String())
			}
		}
		files.close()
	}
	return append(found, tracers()...)
}

// tracers returns the processes that trace with perf_event_open(2), for an error: a uprobe of
// theirs has a file open that they do not have open themselves.
func tracers() []string {
	var found []string
	for _, pid := range procfs.Processes() {
		dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
		for _, fd := range procfs.Names(dir) {
			target, err := os.Readlink(dir + fd)
			if err == nil && target == "anon_inode:[perf_event]" {
				found = append(found, "perhaps "+procfs.Describe(pid)+", which traces")
				break
			}
		}
	}
	return found
}
