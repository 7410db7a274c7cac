package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	packersdk "github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/packer-chroot/packer-plugin-chroot/chroot"
)

// cannotRun is the exit status of a command that could not be run at all; shells
// answer the same.
const cannotRun = 126

// leaveLimit bounds the wait for commands that were told to end.
const leaveLimit = 30 * time.Second

var errClosed = errors.New("provisioning is over")

// communicator lets provisioners work in a root. Closing it ends all running commands, so that
// nothing keeps the root busy when it is left.
type communicator struct {
	// ctx is here because Packer's interface gives none to most calls, and over
	// RPC an empty one to the rest.
	ctx    context.Context
	cancel context.CancelCauseFunc
	root   chroot.Root

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
	// failed is the act that cannot succeed, if the last one was such, and giveUp ends the
	// provisioners when it is tried again.
	failed string
	giveUp context.CancelCauseFunc
	// doomed is why provisioning cannot succeed any more.
	doomed error
}

var _ packersdk.Communicator = (*communicator)(nil)

func newCommunicator(ctx context.Context, root chroot.Root) *communicator {
	ctx, cancel := context.WithCancelCause(ctx)
	return &communicator{ctx: ctx, cancel: cancel, root: root}
}

// close refuses new commands, ends the running ones and waits for them.
func (c *communicator) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel(errClosed)

	done := make(chan struct{})
	go func() {
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(leaveLimit):
		return fmt.Errorf("what provisioners started did not end within %v", leaveLimit)
	}
}

// begin counts one more act, to be ended by running.Done.
func (c *communicator) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.running.Add(1)
	return nil
}

// Start implements packersdk.Communicator. The command ends when ctx does or the
// communicator is closed, whichever is first.
func (c *communicator) Start(ctx context.Context, remote *packersdk.RemoteCmd) error {
	if err := c.begin(); err != nil {
		return err
	}
	command := chroot.Command{Line: remote.Command, Stdin: remote.Stdin, Stdout: remote.Stdout, Stderr: remote.Stderr}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(c.ctx, cancel) //nolint:contextcheck // it is the second context that ends the command
	go func() {
		defer c.running.Done()
		defer cancel()
		defer stop()
		remote.SetExited(c.runOrGiveUp(ctx, command))
	}()
	return nil
}

// run returns the exit status. An error that kept a command from running is written where the
// command itself would have written it: the interface has no other place.
func (c *communicator) run(ctx context.Context, command chroot.Command) int {
	status, err := c.root.Run(ctx, command)
	if err == nil {
		return status
	}
	if command.Stderr != nil {
		fmt.Fprintf(command.Stderr, "cannot run a command in the chroot: %v\n", err)
	}
	return cannotRun
}

func (c *communicator) do(act func(context.Context) error) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.running.Done()
	return act(c.ctx)
}

// contentPrefix begins the name of the temporary file in which Packer's file
// provisioner keeps its option content: no name for a file of an image.
const contentPrefix = "pkr-file-content"

// Upload implements packersdk.Communicator. Without file info a created file has the
// mode 0644, and dst must not be a directory.
func (c *communicator) Upload(dst string, src io.Reader, info *os.FileInfo) error {
	file := chroot.NewFile{Mode: 0o644}
	if info != nil && *info != nil {
		file.Mode = (*info).Mode().Perm()
		if name := path.Base((*info).Name()); !strings.HasPrefix(name, contentPrefix) {
			file.Name = name
		}
	}
	if err := c.doomedBy(); err != nil {
		if c.again("upload "+dst, err) {
			c.giveUp(err)
		}
		return err
	}
	err := c.do(func(ctx context.Context) error { return c.root.Upload(ctx, inside(dst), src, file) })
	c.judge(dst, err)
	return err
}

// hopeless sets a function that is called if retries cannot succeed.
func (c *communicator) hopeless(giveUp context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed, c.doomed, c.giveUp = "", nil, giveUp
}

// lasting are the errors of an upload that time does not mend: the root is hidden, or
// read-only, or full, or its directories are not directories.
var lasting = []error{
	chroot.ErrHidden, syscall.EROFS, syscall.ENOTDIR, syscall.EPERM, syscall.EACCES, syscall.ELOOP, syscall.ENOSPC, syscall.EDQUOT,
}

// judge gives up if an upload fails for the second time in a row with a permanent error. A
// provisioner that tries it only once reports the error itself.
func (c *communicator) judge(dst string, err error) {
	if !slices.ContainsFunc(lasting, func(is error) bool { return errors.Is(err, is) }) {
		err = nil
	}
	if c.again("upload "+dst, err) {
		c.giveUp(err)
	}
}

// again reports whether an act has failed twice in a row.
func (c *communicator) again(act string, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.failed
	if c.failed = ""; err != nil {
		c.failed = act
	}
	return err != nil && before == act && c.giveUp != nil
}

// doom has every upload fail from now on.
func (c *communicator) doom(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doomed = err
}

// doomedBy returns why provisioning cannot succeed any more; nil if it can.
func (c *communicator) doomedBy() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doomed
}

// removal begins the command by which Packer's shell provisioner removes its script.
const removal = "rm -f "

// runOrGiveUp returns the exit status of a command. Packer's shell provisioner removes its
// script again and again for five minutes, and hears of no cancel meanwhile: if that fails
// twice in a row, it counts as done, and provisioning fails with the next upload or at its
// end. A cancel right now could reach the next provisioner before it starts, and Packer's
// RPC panics then.
func (c *communicator) runOrGiveUp(ctx context.Context, command chroot.Command) int {
	if !strings.HasPrefix(command.Line, removal) || command.Stderr != nil {
		return c.run(ctx, command)
	}
	var said bytes.Buffer
	command.Stderr = &said
	status := c.run(ctx, command)
	var err error
	if status != 0 && ctx.Err() == nil {
		err = fmt.Errorf("%q failed with status %d: %.500s", command.Line, status, bytes.TrimSpace(said.Bytes()))
	}
	if c.again(command.Line, err) {
		c.doom(err)
		return 0
	}
	return status
}

// UploadDir implements packersdk.Communicator.
func (c *communicator) UploadDir(dst, src string, exclude []string) error {
	return c.do(func(ctx context.Context) error { return c.root.UploadDir(ctx, inside(dst), src, exclude) })
}

// Download implements packersdk.Communicator.
func (c *communicator) Download(src string, dst io.Writer) error {
	return c.do(func(ctx context.Context) error {
		err := c.root.Download(ctx, inside(src), dst)
		if err != nil {
			discardDestination()
		}
		return err
	})
}

// DownloadDir implements packersdk.Communicator.
func (c *communicator) DownloadDir(src, dst string, exclude []string) error {
	return c.do(func(ctx context.Context) error { return c.root.DownloadDir(ctx, inside(src), dst, exclude) })
}

// inside makes a path in the root absolute: there is no home directory that a
// relative one could start from. A slash at the end stays, for it has a meaning.
func inside(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return "/" + name
}
