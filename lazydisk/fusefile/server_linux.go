package fusefile

import (
	"fmt"
	"os"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxRequest is the number of bytes that the kernel reads or writes at once, and
	// maxRequests the number of asynchronous requests at a time. Together they bound the memory
	// for requests.
	maxRequest  = 512 << 10
	maxRequests = 32
)

// Content is the content of the served file. Its methods are called by several goroutines.
type Content interface {
	Size() int64
	ReadAt(p []byte, off int64) error
	WriteAt(p []byte, off int64) error
	// Zero replaces a range by zeros.
	Zero(off, length int64) error
}

// Server serves a file.
type Server struct {
	server *fuse.Server
	mount  *os.File
	files  *files
	done   chan struct{}
}

// Serve starts to serve a file with a name. It does not return before the kernel and the server
// have agreed on the protocol.
func Serve(name string, content Content) (*Server, error) {
	device, mount, err := mountFuse()
	if err != nil {
		return nil, err
	}
	s := &Server{mount: mount, files: newFiles(name, content), done: make(chan struct{})}
	s.server, err = fuse.NewServer(s.files, fmt.Sprintf("/dev/fd/%d", device), &fuse.MountOptions{
		Name:          "lazydisk",
		MaxWrite:      maxRequest,
		MaxBackground: maxRequests,
		// splicing pays only for data that is not verified
		DisableSplice:     true,
		ExtraCapabilities: fuse.CAP_ASYNC_DIO,
	})
	if err != nil {
		mount.Close() // NewServer may have closed the device, and the mount ends with this process
		return nil, fmt.Errorf("cannot serve FUSE requests: %w", err)
	}
	if s.server.KernelSettings().Flags64()&fuse.CAP_ASYNC_DIO == 0 {
		s.mount.Close()
		return nil, fmt.Errorf("this kernel's FUSE has no asynchronous direct I/O: %w", unix.EOPNOTSUPP)
	}
	go func() {
		defer close(s.done)
		s.server.Serve()
	}()
	return s, nil
}

// Mount returns the detached mount. The caller must pass it on and call CloseMount.
func (s *Server) Mount() *os.File { return s.mount }

// CloseMount closes this process's descriptor of the mount.
func (s *Server) CloseMount() { s.mount.Close() }

// Done returns a channel that is closed when the connection has ended: after the last user has
// closed the mount and the file, or because it was aborted. The kernel does not send the release
// of the file of a mount that ends.
func (s *Server) Done() <-chan struct{} { return s.done }

// files is the served file system: a directory with one file.
type files struct {
	fuse.RawFileSystem
	name    string
	content Content
}

func newFiles(name string, content Content) *files {
	return &files{fuse.NewDefaultRawFileSystem(), name, content}
}

const (
	fileNode = 2
	// validity is how long the kernel may keep attributes, which never change.
	validity = 1 << 30
)

// attributes sets the attributes of a node.
func (f *files) attributes(node uint64, attr *fuse.Attr) fuse.Status {
	attr.Ino, attr.Nlink, attr.Blksize = node, 1, 4096
	attr.Owner = fuse.Owner{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	switch node {
	case fuse.FUSE_ROOT_ID:
		attr.Mode = unix.S_IFDIR | 0o700
	case fileNode:
		attr.Mode = unix.S_IFREG | 0o600
		attr.Size = uint64(f.content.Size())
	default:
		return fuse.ENOENT
	}
	return fuse.OK
}

// Lookup implements fuse.RawFileSystem.
func (f *files) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if in.NodeId != fuse.FUSE_ROOT_ID || name != f.name {
		return fuse.ENOENT
	}
	out.NodeId, out.Generation, out.EntryValid, out.AttrValid = fileNode, 1, validity, validity
	return f.attributes(fileNode, &out.Attr)
}

// GetAttr implements fuse.RawFileSystem.
func (f *files) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.AttrValid = validity
	return f.attributes(in.NodeId, &out.Attr)
}

// SetAttr implements fuse.RawFileSystem. The kernel sets times; the size stays as it is.
func (f *files) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if size, ok := in.GetSize(); ok && size != uint64(f.content.Size()) {
		return fuse.EPERM
	}
	out.AttrValid = validity
	return f.attributes(in.NodeId, &out.Attr)
}

// Open implements fuse.RawFileSystem. Reads and writes bypass the page cache, because the block
// device over the file has its own.
func (f *files) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.NodeId != fileNode {
		return fuse.EPERM
	}
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return fuse.OK
}

// Read implements fuse.RawFileSystem.
func (f *files) Read(_ <-chan struct{}, in *fuse.ReadIn, p []byte) (fuse.ReadResult, fuse.Status) {
	p = p[:min(int64(len(p)), max(0, f.content.Size()-int64(in.Offset)))]
	if err := f.content.ReadAt(p, int64(in.Offset)); err != nil {
		return nil, fuse.EIO
	}
	return fuse.ReadResultData(p), fuse.OK
}

// Write implements fuse.RawFileSystem.
func (f *files) Write(_ <-chan struct{}, in *fuse.WriteIn, p []byte) (uint32, fuse.Status) {
	if err := f.content.WriteAt(p, int64(in.Offset)); err != nil {
		return 0, fuse.EIO
	}
	return uint32(len(p)), fuse.OK
}

// Fallocate implements fuse.RawFileSystem. The kernel discards and zeroes ranges with it.
func (f *files) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if in.Mode&(unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_ZERO_RANGE) == 0 {
		return fuse.Status(unix.EOPNOTSUPP)
	}
	if err := f.content.Zero(int64(in.Offset), int64(in.Length)); err != nil {
		return fuse.EIO
	}
	return fuse.OK
}

// Fsync implements fuse.RawFileSystem. Written data does not outlive this process, whether it is
// on the disk or not, so there is nothing to do. Data that the disk loses is found by
// cow.Content.Sync before the changes are read.
func (f *files) Fsync(<-chan struct{}, *fuse.FsyncIn) fuse.Status { return fuse.OK }

// StatFs implements fuse.RawFileSystem.
func (f *files) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.NameLen = 4096, 255
	return fuse.OK
}
