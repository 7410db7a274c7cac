//go:build linux

package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"golang.org/x/sys/unix"
)

var (
	_ state.Disks    = (*Store)(nil)
	_ state.Measurer = (*Store)(nil)
)

// Options holds the optional attributes of a Store.
type Options struct {
	// Log receives errors that no caller waits for, such as a repartitioned device whose
	// partitions cannot be followed. Nil discards them.
	Log *slog.Logger
}

// Store stores volumes and snapshots in a directory. Only one process at a time may use a
// directory.
type Store struct {
	dir    string
	naming Naming
	log    *slog.Logger

	mu        sync.Mutex
	followers map[string]*follower // by loop device
}

// Open opens a directory, and creates it if needed. It neither attaches nor releases devices:
// call ReleaseAll next.
func Open(dir string, naming Naming, opts Options) (*Store, error) {
	if _, err := ParseNaming(string(naming)); err != nil {
		return nil, err
	}
	for _, sub := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("cannot keep volumes: %w", err)
		}
	}
	// The kernel reports the real path of a loop device's file.
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot keep volumes: %w", err)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{dir: dir, naming: naming, log: opts.Log, followers: map[string]*follower{}}, nil
}

// validID matches IDs, which become names of files.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// path returns the file of a volume or snapshot.
func (s *Store) path(sub, id string) (string, error) {
	if !validID.MatchString(id) {
		return "", fmt.Errorf("%q is not a valid ID", id)
	}
	return filepath.Join(s.dir, sub, id+".raw"), nil
}

// CreateVolume creates a volume of this size, blank or with the content of a snapshot, followed
// by zeros.
func (s *Store) CreateVolume(id string, bytes int64, snapshot string) error {
	err := s.createVolume(id, bytes, snapshot)
	if err != nil {
		return fmt.Errorf("cannot create volume %s: %w", id, err)
	}
	return nil
}

func (s *Store) createVolume(id string, bytes int64, snapshot string) error {
	dst, err := s.path("volumes", id)
	if err != nil {
		return err
	}
	if bytes <= 0 {
		return fmt.Errorf("its size is %d bytes", bytes)
	}
	if snapshot == "" {
		return create(dst, func(f *os.File) error { return f.Truncate(bytes) })
	}
	src, err := s.path("snapshots", snapshot)
	if err != nil {
		return err
	}
	return clone(dst, src, bytes)
}

// ResizeVolume grows a volume. The device of an attached volume has the new size at once.
func (s *Store) ResizeVolume(id string, bytes int64) error {
	if err := s.resizeVolume(id, bytes); err != nil {
		return fmt.Errorf("cannot resize volume %s: %w", id, err)
	}
	return nil
}

func (s *Store) resizeVolume(id string, bytes int64) error {
	file, err := s.path("volumes", id)
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if bytes < info.Size() {
		return fmt.Errorf("it has %d bytes and cannot shrink to %d", info.Size(), bytes)
	}
	if err := os.Truncate(file, bytes); err != nil {
		return err
	}
	return eachLoop(is(file), func(l loop) error { return l.updateSize() })
}

// DeleteVolume removes a volume's data. It succeeds if there is none. The error wraps
// state.ErrBusy if the volume is attached.
func (s *Store) DeleteVolume(id string) error {
	file, err := s.path("volumes", id)
	if err == nil {
		err = eachLoop(is(file), func(l loop) error {
			return fmt.Errorf("it is attached as %s: %w", l.path, state.ErrBusy)
		})
	}
	if err == nil {
		err = removeFile(file)
	}
	if err != nil {
		return fmt.Errorf("cannot delete volume %s: %w", id, err)
	}
	return nil
}

// CreateSnapshot stores the flushed data of a volume: for an attached volume the data that its
// device has received, without the buffers of a mounted file system. It is atomic if the store's
// file system can clone. Otherwise it is a copy, and the volume must not be written meanwhile.
func (s *Store) CreateSnapshot(id, volume string) error {
	if err := s.createSnapshot(id, volume); err != nil {
		return fmt.Errorf("cannot create snapshot %s of %s: %w", id, volume, err)
	}
	return nil
}

func (s *Store) createSnapshot(id, volume string) error {
	dst, err := s.path("snapshots", id)
	if err != nil {
		return err
	}
	src, err := s.path("volumes", volume)
	if err != nil {
		return err
	}
	if err := eachLoop(is(src), func(l loop) error { return disk.Flush(l.path) }); err != nil {
		return err
	}
	return clone(dst, src, 0)
}

// CopySnapshot creates a snapshot with the same content.
func (s *Store) CopySnapshot(id, source string) error {
	dst, err := s.path("snapshots", id)
	if err != nil {
		return fmt.Errorf("cannot copy snapshot %s: %w", source, err)
	}
	src, err := s.path("snapshots", source)
	if err == nil {
		err = clone(dst, src, 0)
	}
	if err != nil {
		return fmt.Errorf("cannot copy snapshot %s to %s: %w", source, id, err)
	}
	return nil
}

// DeleteSnapshot removes a snapshot's data. It succeeds if there is none.
func (s *Store) DeleteSnapshot(id string) error {
	file, err := s.path("snapshots", id)
	if err == nil {
		err = removeSnapshot(file)
	}
	if err != nil {
		return fmt.Errorf("cannot delete snapshot %s: %w", id, err)
	}
	return nil
}

// SnapshotBytes returns the size of the written data in a snapshot. Blocks shared by clones count
// in each.
func (s *Store) SnapshotBytes(id string) (int64, error) {
	file, err := s.path("snapshots", id)
	if err != nil {
		return 0, fmt.Errorf("cannot measure snapshot %s: %w", id, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, fmt.Errorf("cannot measure snapshot %s: %w", id, err)
	}
	return st.Blocks * 512, nil
}

// ImportSnapshot stores a raw disk as a snapshot. Zeros in it take no space.
func (s *Store) ImportSnapshot(id, file string) error {
	dst, err := s.path("snapshots", id)
	if err == nil {
		err = create(dst, func(f *os.File) error { return copyRaw(f, file, 0) })
	}
	if err != nil {
		return fmt.Errorf("cannot import %s as snapshot %s: %w", file, id, err)
	}
	return nil
}

// ExportSnapshot writes a snapshot as a sparse raw disk of this size, or of its own size for 0.
// It replaces a regular file.
func (s *Store) ExportSnapshot(id, file string, bytes int64) error {
	if err := s.exportSnapshot(id, file, bytes); err != nil {
		return fmt.Errorf("cannot export snapshot %s to %s: %w", id, file, err)
	}
	return nil
}

func (s *Store) exportSnapshot(id, file string, bytes int64) error {
	src, err := s.path("snapshots", id)
	if err != nil {
		return err
	}
	switch info, err := os.Stat(file); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it exists and is not a regular file")
	}
	return replace(file, func(f *os.File) error {
		if err := f.Chmod(0o644); err != nil {
			return err
		}
		return copyFile(f, src, bytes)
	})
}

// removeFile removes a file if it exists.
func removeFile(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
