package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// containerVariable has the description of the container of which this process is the first one.
const containerVariable = "PACKER_TEST_CONTAINER"

// containerSpec describes a container for its first process.
type containerSpec struct {
	// Root is the image, and Layer a directory for what the container writes.
	Root, Layer string
	// Commit writes to the image instead.
	Commit       bool
	Volumes      []containerVolume
	Devices      []string
	Capabilities []string
	// Dir, Env and Args are those of the program.
	Dir       string
	Env, Args []string
}

// containerVolume is a directory or file of the host.
type containerVolume struct {
	From, To string
	ReadOnly bool
}

// runContainer runs the program of a container if this process was started for that, and then does not return.
func runContainer() {
	raw, ok := os.LookupEnv(containerVariable)
	if !ok {
		return
	}
	runtime.LockOSThread() // capabilities are those of a thread
	var spec containerSpec
	err := json.Unmarshal([]byte(raw), &spec)
	if err == nil {
		err = spec.run()
	}
	fmt.Fprintln(os.Stderr, "container:", err)
	os.Exit(125)
}

// run becomes the program, and only returns an error.
func (s containerSpec) run() error {
	if _, err := os.NewFile(3, "ready").Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("the container was not released: %w", err)
	}
	unix.CloseOnExec(3)
	root := filepath.Join(s.Layer, "root")
	steps := []func(root string) error{s.mountRoot, mountKernel, s.mountDev, s.mountVolumes, enter, s.drop}
	for _, step := range steps {
		if err := step(root); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Sethostname([]byte(containerName)), os.Chdir(s.Dir)); err != nil {
		return err
	}
	os.Clearenv()
	for _, e := range s.Env {
		name, value, _ := strings.Cut(e, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	program, err := exec.LookPath(s.Args[0])
	if err != nil {
		return err
	}
	signal.Reset()
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, s.Args, s.Env))
}

// mountRoot mounts an overlay over the image, so that the image does not change.
func (s containerSpec) mountRoot(root string) error {
	upper, work := filepath.Join(s.Layer, "upper"), filepath.Join(s.Layer, "work")
	for _, dir := range []string{root, upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if s.Commit {
		return unix.Mount(s.Root, root, "", unix.MS_BIND, "")
	}
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir="+s.Root+",upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("cannot mount the container's root: %w", err)
	}
	return nil
}

// protected are the parts of /proc that a container cannot change, and masked those that it cannot read.
var (
	protected = []string{"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"}
	masked    = []string{"proc/kcore", "proc/keys", "proc/timer_list", "sys/firmware"}
)

// mountKernel mounts the file systems of the kernel as for an ordinary container.
func mountKernel(root string) error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	err := errors.Join(mountAt(root, "proc", "proc", flags, ""), mountAt(root, "sys", "sysfs", flags|unix.MS_RDONLY, ""))
	for _, name := range protected {
		path := filepath.Join(root, name)
		if err == nil && Exists(path) {
			err = errors.Join(unix.Mount(path, path, "", unix.MS_BIND, ""), unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, ""))
		}
	}
	for _, name := range masked {
		path := filepath.Join(root, name)
		info, missing := os.Stat(path)
		switch {
		case err != nil || missing != nil:
		case info.IsDir():
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "")
		default:
			err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		}
	}
	return err
}

func mountAt(root, name, kind string, flags uintptr, data string) error {
	path := filepath.Join(root, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, path, kind, flags, data); err != nil {
		return fmt.Errorf("cannot mount %s: %w", name, err)
	}
	return nil
}

// mountDev mounts a /dev of the container's own, with the usual nodes and the given ones.
func (s containerSpec) mountDev(root string) error {
	err := errors.Join(
		mountAt(root, "dev", "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k"),
		mountAt(root, "dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
		mountAt(root, "dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=65536k"),
		mountAt(root, "dev/mqueue", "mqueue", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""),
	)
	for _, name := range slices.Concat([]string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}, s.Devices) {
		var st unix.Stat_t
		if found := unix.Stat(name, &st); found != nil {
			return errors.Join(err, &os.PathError{Op: "stat", Path: name, Err: found})
		}
		path := filepath.Join(root, name)
		err = errors.Join(err, unix.Mknod(path, st.Mode, int(st.Rdev)), os.Chmod(path, os.FileMode(st.Mode&0o777)))
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"} {
		err = errors.Join(err, os.Symlink(target, filepath.Join(root, "dev", name)))
	}
	return err
}

// ownFiles are the files that a runtime mounts over those of the image.
var ownFiles = map[string]string{
	"etc/hostname": containerName + "\n", "etc/hosts": "127.0.0.1 localhost\n", "etc/resolv.conf": "nameserver 192.0.2.53\n",
}

const containerName = "c0ffee123456"

func (s containerSpec) mountVolumes(root string) error {
	volumes := slices.Clone(s.Volumes)
	for name, content := range ownFiles {
		file := filepath.Join(s.Layer, filepath.Base(name))
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			return err
		}
		volumes = append(volumes, containerVolume{From: file, To: name})
	}
	for _, v := range volumes {
		to := filepath.Join(root, v.To)
		info, err := os.Stat(v.From)
		switch {
		case err != nil:
			return err
		case info.IsDir():
			err = os.MkdirAll(to, 0o755)
		default:
			err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, nil, 0o644))
		}
		if err == nil {
			err = unix.Mount(v.From, to, "", unix.MS_BIND, "")
		}
		if err == nil && v.ReadOnly {
			err = unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
		}
		if err != nil {
			return fmt.Errorf("cannot mount the volume %s: %w", v.To, err)
		}
	}
	return nil
}

// enter makes the root the only one that this process can reach.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("cannot enter the container's root: %w", err)
	}
	return errors.Join(unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/"))
}

// capabilities are the numbers of capabilities by their names.
var capabilities = map[string]int{
	"AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "FOWNER": unix.CAP_FOWNER,
	"FSETID": unix.CAP_FSETID, "KILL": unix.CAP_KILL, "MKNOD": unix.CAP_MKNOD, "NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
	"NET_RAW": unix.CAP_NET_RAW, "SETFCAP": unix.CAP_SETFCAP, "SETGID": unix.CAP_SETGID, "SETPCAP": unix.CAP_SETPCAP,
	"SETUID": unix.CAP_SETUID, "SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_CHROOT": unix.CAP_SYS_CHROOT,
}

// drop removes all capabilities but the container's from the bounding set: no program that is executed
// from now on has them.
func (s containerSpec) drop(string) error {
	keep := map[int]bool{}
	for _, name := range s.Capabilities {
		number, ok := capabilities[name]
		if !ok {
			return fmt.Errorf("unknown capability %q", name)
		}
		keep[number] = true
	}
	for number := range unix.CAP_LAST_CAP + 1 {
		if keep[number] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(number), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // an older kernel lacks it
			return fmt.Errorf("cannot drop capability %d: %w", number, err)
		}
	}
	return nil
}
