package chroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/chroot/blockdev"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/command"
	"github.com/packer-chroot/packer-plugin-chroot/chroot/wire"
)

// Remote is a root in the keeper's process, for its plugin.
type Remote struct {
	session      *session
	path, device string
	block        blockdev.Identity
	// made are directories that may have been created for it.
	made []string
}

var _ Root = (*Remote)(nil)

// Path implements Root.
func (r *Remote) Path() string { return r.path }

// within returns the root with a path.
func (req request) within(path string) (*MountedRoot, error) {
	m := req.keeper.at(path)
	if m == nil {
		return nil, fmt.Errorf("nothing is mounted on %s", path)
	}
	return m, nil
}

// inRoot declares an operation on a root.
func inRoot[A, R any](name string, do func(context.Context, request, *MountedRoot, A) (R, error)) Operation[at[A], R] {
	return operation(name, func(ctx context.Context, req request, a at[A]) (R, error) {
		m, err := req.within(a.Root)
		if err != nil {
			var nothing R
			return nothing, err
		}
		return do(ctx, req, m, a.Args)
	})
}

// at is the argument of an operation on a root.
type at[A any] struct {
	Root string
	Args A
}

// runArgs are the arguments of running a command. The files of the call are its standard
// input, if it has one, its standard output, and its standard error, if that is another one.
type runArgs struct {
	Line          string
	Stdin, Stderr bool
}

var callRun = inRoot("run", func(ctx context.Context, req request, m *MountedRoot, a runArgs) (int, error) {
	c, files := Command{Line: a.Line}, req.files
	if a.Stdin && len(files) > 0 {
		c.Stdin, files = files[0], files[1:]
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("%w: a command without output", wire.ErrFrame)
	}
	c.Stdout, c.Stderr = files[0], files[0]
	if a.Stderr && len(files) > 1 {
		c.Stderr = files[1]
	}
	return m.Run(ctx, c)
})

// Run implements Root. The command writes into pipes to this process, not through the
// keeper.
func (r *Remote) Run(ctx context.Context, c Command) (int, error) {
	pipes, err := command.Streams{Stdin: c.Stdin, Stdout: c.Stdout, Stderr: c.Stderr}.Connect()
	if err != nil {
		return 0, err
	}
	args := runArgs{Line: c.Line, Stdin: pipes.HasInput(), Stderr: pipes.Split()}
	status, err := callRun.on(ctx, r.session, at[runArgs]{r.path, args}, pipes.Files()...)
	if err != nil {
		pipes.Drop()
		return 0, err
	}
	pipes.Finish()
	return status, nil
}

// Upload implements Root.
func (r *Remote) Upload(ctx context.Context, dst string, src io.Reader, file NewFile) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	fed := make(chan error, 1)
	go func() {
		_, err := io.Copy(write, src)
		fed <- err
		write.Close()
	}()
	_, err = callUpload.on(ctx, r.session, at[uploadArgs]{r.path, uploadArgs{dst, file}}, read)
	read.Close()
	if err != nil {
		return err
	}
	// The keeper has read to the end, so that the feeding has ended.
	if err := <-fed; err != nil {
		return fmt.Errorf("cannot upload to %s: %w", dst, err)
	}
	return nil
}

type uploadArgs struct {
	Dst  string
	File NewFile
}

var callUpload = inRoot("upload", func(ctx context.Context, req request, m *MountedRoot, a uploadArgs) (wire.Empty, error) {
	src, err := req.pipe(ctx)
	if err != nil {
		return wire.Empty{}, err
	}
	defer src.Close()
	return wire.Empty{}, m.Upload(ctx, a.Dst, src, a.File)
})

// pipe returns the pipe that came with a call. It is closed when ctx ends.
func (req request) pipe(ctx context.Context) (*os.File, error) {
	if len(req.files) == 0 {
		return nil, fmt.Errorf("%w: a stream is missing", wire.ErrFrame)
	}
	fd, err := unix.FcntlInt(req.files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	pipe := os.NewFile(uintptr(fd), "a stream of the plugin")
	context.AfterFunc(ctx, func() { pipe.Close() })
	return pipe, nil
}

// Download implements Root.
func (r *Remote) Download(ctx context.Context, src string, dst io.Writer) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	fetched := make(chan error, 1)
	go func() {
		_, err := io.Copy(dst, read)
		read.Close() // a keeper that still writes gets an error
		fetched <- err
	}()
	_, err = callDownload.on(ctx, r.session, at[string]{r.path, src}, write)
	write.Close()
	if err != nil { // a keeper that goes on writing would keep the other end open
		_ = read.SetReadDeadline(time.Now())
	}
	if failed := <-fetched; failed != nil && !errors.Is(failed, os.ErrDeadlineExceeded) {
		return fmt.Errorf("cannot download %s: %w", src, failed)
	}
	return err
}

var callDownload = inRoot("download", func(ctx context.Context, req request, m *MountedRoot, src string) (wire.Empty, error) {
	dst, err := req.pipe(ctx)
	if err != nil {
		return wire.Empty{}, err
	}
	defer dst.Close()
	return wire.Empty{}, m.Download(ctx, src, dst)
})

// dirArgs are the arguments of copying a directory.
type dirArgs struct {
	Dst, Src string
	Exclude  []string
}

// absolute returns a path of the host for the keeper, which is in another directory. A
// slash at the end stays, for it has a meaning.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err == nil && strings.HasSuffix(path, "/") && abs != "/" {
		abs += "/"
	}
	return abs, err
}

// UploadDir implements Root.
func (r *Remote) UploadDir(ctx context.Context, dst, src string, exclude []string) error {
	src, err := absolute(src)
	if err != nil {
		return err
	}
	_, err = callUploadDir.on(ctx, r.session, at[dirArgs]{r.path, dirArgs{dst, src, exclude}})
	return err
}

var callUploadDir = inRoot("upload directory", func(ctx context.Context, _ request, m *MountedRoot, a dirArgs) (wire.Empty, error) {
	return wire.Empty{}, m.UploadDir(ctx, a.Dst, a.Src, a.Exclude)
})

// DownloadDir implements Root.
func (r *Remote) DownloadDir(ctx context.Context, src, dst string, exclude []string) error {
	dst, err := absolute(dst)
	if err != nil {
		return err
	}
	_, err = callDownloadDir.on(ctx, r.session, at[dirArgs]{r.path, dirArgs{dst, src, exclude}})
	return err
}

var callDownloadDir = inRoot("download directory", func(ctx context.Context, req request, m *MountedRoot, a dirArgs) (wire.Empty, error) {
	return wire.Empty{}, m.downloadDirFor(ctx, a.Src, a.Dst, a.Exclude, req.owner)
})

// IsMounted reports whether something is mounted at a path inside.
func (r *Remote) IsMounted(ctx context.Context, path string) (bool, error) {
	return callIsMounted.on(ctx, r.session, at[string]{r.path, path})
}

var callIsMounted = inRoot("is mounted", func(ctx context.Context, _ request, m *MountedRoot, path string) (bool, error) {
	return m.IsMounted(ctx, path)
})

// MountBelow mounts a further file system inside, as MountedRoot.MountBelow does.
func (r *Remote) MountBelow(ctx context.Context, submount Submount) error {
	_, err := callMountBelow.on(ctx, r.session, at[Submount]{r.path, submount})
	return err
}

var callMountBelow = inRoot("mount below", func(ctx context.Context, _ request, m *MountedRoot, submount Submount) (wire.Empty, error) {
	return wire.Empty{}, m.MountBelow(ctx, submount)
})

// SELinuxContexts examines the SELinux labels, as MountedRoot.SELinuxContexts does.
func (r *Remote) SELinuxContexts(ctx context.Context, search bool) (SELinuxContexts, error) {
	return callSELinuxContexts.on(ctx, r.session, at[bool]{r.path, search})
}

var callSELinuxContexts = inRoot("SELinux contexts", func(ctx context.Context, _ request, m *MountedRoot, search bool) (SELinuxContexts, error) {
	return m.SELinuxContexts(ctx, search)
})

// CopyIn copies a file of the host in, as MountedRoot.CopyIn does.
func (r *Remote) CopyIn(ctx context.Context, path string) error {
	_, err := callCopyIn.on(ctx, r.session, at[string]{r.path, path})
	return err
}

var callCopyIn = inRoot("copy in", func(ctx context.Context, _ request, m *MountedRoot, path string) (wire.Empty, error) {
	return wire.Empty{}, m.CopyIn(ctx, path)
})

// BlockServices keeps services from starting, as MountedRoot.BlockServices does.
func (r *Remote) BlockServices(ctx context.Context) error {
	_, err := callBlockServices.on(ctx, r.session, at[string]{Root: r.path})
	return err
}

var callBlockServices = inRoot("block services", func(ctx context.Context, _ request, m *MountedRoot, _ string) (wire.Empty, error) {
	return wire.Empty{}, m.BlockServices(ctx)
})

// PutBack undoes CopyIn and BlockServices, as MountedRoot.PutBack does.
func (r *Remote) PutBack(ctx context.Context) error {
	_, err := callPutBack.on(ctx, r.session, at[string]{Root: r.path})
	return err
}

var callPutBack = inRoot("put back", func(ctx context.Context, _ request, m *MountedRoot, _ string) (wire.Empty, error) {
	return wire.Empty{}, m.PutBack(ctx)
})

// RemoveUploads removes temporary uploads, as MountedRoot.RemoveUploads does.
func (r *Remote) RemoveUploads(ctx context.Context) error {
	_, err := callRemoveUploads.on(ctx, r.session, at[string]{Root: r.path})
	return err
}

var callRemoveUploads = inRoot("remove uploads", func(ctx context.Context, _ request, m *MountedRoot, _ string) (wire.Empty, error) {
	return wire.Empty{}, m.RemoveUploads(ctx)
})
