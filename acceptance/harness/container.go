package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// Container runs programs in namespaces of their own over a root directory, with the options of a docker
// run command. It needs no container runtime. The host's network can only be reached at the addresses of
// the box's cloud.
type Container struct {
	*Box
	// Root is the directory of its image.
	Root string
	Options
	// Sources are the directories of named volumes, and of paths of the host.
	Sources map[string]string
	// Hidden are the names of variables that the container gets besides those of the command.
	Hidden []string
	// commit writes to the image itself.
	commit bool
}

// dockerCapabilities are the capabilities of a container without options.
// https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities
var dockerCapabilities = []string{
	"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP",
	"SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// dockerRules are the rules for devices of a container without options: all nodes may be created, and
// some devices opened.
var dockerRules = []string{
	"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
	"c 5:2 rwm", "c 136:* rwm",
}

// Contained is a program in a container.
type Contained struct {
	c    *Container
	cmd  *exec.Cmd
	Out  *SyncedText
	undo []func()
}

// Exec runs a program in the container and returns its output.
func (c *Container) Exec(args ...string) (string, error) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Deadline)
	defer cancel()
	p := c.Launch(args...)
	defer context.AfterFunc(ctx, p.Kill)()
	err := p.Wait()
	return p.Out.String(), err
}

// Build runs a program that changes the container's image.
func (c *Container) Build(args ...string) (string, error) {
	c.Helper()
	builder := *c
	builder.Options = Options{Workdir: "/"}
	builder.commit = true
	return builder.Exec(args...)
}

// Launch starts a program as the first process of a new container.
func (c *Container) Launch(args ...string) *Contained {
	c.Helper()
	p := &Contained{c: c, Out: &SyncedText{}}
	c.Must(p.start(args))
	return p
}

// Wait waits until the container has ended, with all of its processes.
func (p *Contained) Wait() error {
	err := p.cmd.Wait()
	for _, undo := range slices.Backward(p.undo) {
		undo()
	}
	p.undo = nil
	return err
}

// Signal sends a signal to the first process of the container, as docker stop does.
func (p *Contained) Signal(s syscall.Signal) { _ = syscall.Kill(p.cmd.Process.Pid, s) }

// Kill kills all processes of the container, as docker kill does: the kernel does so if the first one is
// killed.
func (p *Contained) Kill() { p.Signal(syscall.SIGKILL) }

// start starts the first process, which waits until the network and the rules for devices are ready.
func (p *Contained) start(args []string) error {
	spec, err := p.c.spec(args)
	if err != nil {
		return err
	}
	ready, wait, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Env = []string{containerVariable + "=" + ToJSON(spec)}
	p.cmd.Stdout, p.cmd.Stderr = p.Out, p.Out
	p.cmd.ExtraFiles = []*os.File{ready}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
	}
	if err := p.cmd.Start(); err != nil {
		wait.Close()
		return err
	}
	err = errors.Join(p.connect(), p.restrict())
	if err == nil {
		_, err = wait.Write([]byte{1})
	}
	wait.Close()
	if err != nil {
		p.Kill()
		_ = p.Wait()
	}
	return err
}

// spec returns the description of the container for its first process.
func (c *Container) spec(args []string) (containerSpec, error) {
	work, err := os.MkdirTemp(c.Dir, "container-")
	s := containerSpec{
		Root: c.Root, Layer: work, Devices: c.Devices, Dir: c.Workdir, Args: args,
		Capabilities: slices.DeleteFunc(slices.Concat(dockerCapabilities, c.Capabilities), func(name string) bool { return slices.Contains(c.Dropped, name) }),
		Commit:       c.commit,
	}
	for _, v := range c.Volumes {
		from, to, _ := strings.Cut(v, ":")
		to, readOnly := strings.CutSuffix(to, ":ro")
		dir, ok := c.Sources[from]
		if !ok {
			return s, fmt.Errorf("the volume %s has no directory", from)
		}
		s.Volumes = append(s.Volumes, containerVolume{From: dir, To: to, ReadOnly: readOnly})
	}
	s.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	for _, name := range slices.Concat(c.Variables, c.Hidden) {
		i := slices.IndexFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
		if i < 0 {
			return s, fmt.Errorf("%s is not set", name)
		}
		s.Env = append(s.Env, c.Env[i])
	}
	return s, err
}

// connect makes the addresses of the cloud reachable in the network namespace of the container, which has
// no other connection: a listener on the same address is opened there, and its connections are forwarded.
func (p *Contained) connect() error {
	addresses := map[string]bool{}
	for _, e := range p.c.Env {
		_, value, _ := strings.Cut(e, "=")
		if u, err := url.Parse(value); err == nil && u.Scheme == "http" {
			addresses[u.Host] = true
		}
	}
	var listeners []net.Listener
	err := inNetworkOf(p.cmd.Process.Pid, func() error {
		if err := loopbackUp(); err != nil {
			return err
		}
		for address := range addresses {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
		}
		return nil
	})
	for _, l := range listeners {
		go forward(l)
		p.undo = append(p.undo, func() { l.Close() })
	}
	return err
}

// inNetworkOf calls a function in the network namespace of a process.
func inNetworkOf(pid int, act func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the function
		namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			defer namespace.Close()
			err = unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = act()
		}
		done <- err
	}()
	return <-done
}

// loopbackUp turns the loopback interface of this thread's network namespace on.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// forward connects the connections of a listener to the same address in this process's network namespace.
func forward(l net.Listener) {
	for {
		inside, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer inside.Close()
			outside, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return
			}
			defer outside.Close()
			var both sync.WaitGroup
			both.Go(func() { pass(outside, inside) })
			both.Go(func() { pass(inside, outside) })
			both.Wait()
		}()
	}
}

// pass copies one direction of a connection.
func pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.(*net.TCPConn).CloseWrite()
}

// restrict puts the container into a cgroup with the rules for devices.
func (p *Contained) restrict() error {
	const hierarchy = "/sys/fs/cgroup/devices"
	if _, err := os.Stat(hierarchy + "/devices.allow"); err != nil {
		if CI {
			return fmt.Errorf("rules for devices cannot be tested: %w", err)
		}
		p.c.Logf("the rules for devices are not tested, because this machine has no cgroup v1 for them: %v", err)
		return nil
	}
	group, err := os.MkdirTemp(hierarchy, "container-")
	if err != nil {
		return err
	}
	p.undo = append(p.undo, func() { removeGroup(p.c, group) })
	write := func(file, text string) {
		if err == nil {
			err = os.WriteFile(filepath.Join(group, file), []byte(text), 0)
		}
	}
	write("devices.deny", "a")
	for _, rule := range slices.Concat(dockerRules, p.c.Rules) {
		write("devices.allow", rule)
	}
	for _, device := range p.c.Devices {
		rule, found := deviceRule(device)
		err = errors.Join(err, found)
		write("devices.allow", rule)
	}
	write("cgroup.procs", strconv.Itoa(p.cmd.Process.Pid))
	return err
}

// removeGroup removes a cgroup as soon as its last process has ended.
func removeGroup(c *Container, group string) {
	WaitFor(c.TB, "the cgroup of a container is empty", func() bool { return unix.Rmdir(group) == nil })
}

// deviceRule returns the rule for a device that a container is given.
func deviceRule(path string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", &os.PathError{Op: "stat", Path: path, Err: err}
	}
	kind := "c"
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "b"
	}
	return fmt.Sprintf("%s %d:%d rwm", kind, unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// Install copies a program of the host, with its libraries, to a path in the container's image.
func (c *Container) Install(program, path string) {
	c.Helper()
	from, err := filepath.EvalSymlinks(program)
	c.Must(err)
	c.copyIn(from, path)
	out, err := exec.Command("ldd", from).CombinedOutput()
	if err != nil { // it is static
		return
	}
	for _, field := range strings.Fields(string(out)) {
		if filepath.IsAbs(field) && !Exists(filepath.Join(c.Root, field)) {
			c.copyIn(field, field)
		}
	}
}

func (c *Container) copyIn(from, path string) {
	c.Helper()
	to := filepath.Join(c.Root, path)
	c.Must(os.MkdirAll(filepath.Dir(to), 0o755))
	c.Must(Run("cp", "-L", "--preserve=mode", from, to))
}

// Discard removes the layers that containers have written.
func (c *Container) Discard() {
	c.Helper()
	layers, err := filepath.Glob(filepath.Join(c.Dir, "container-*"))
	c.Must(err)
	for _, layer := range layers {
		c.Must(remove.All(layer))
	}
}
