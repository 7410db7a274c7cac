//go:build !linux

package safedir

import (
	"errors"
	"os"
)

// Chroot builds need Linux. On other systems every function fails.

// Dir is an open directory that only trusted users can write to.
type Dir struct{}

// Open fails: this system is not supported.
func Open(string) (*Dir, error) { return nil, errors.ErrUnsupported }

// Make fails: this system is not supported.
func Make(string, os.FileMode) (*Dir, error) { return nil, errors.ErrUnsupported }

// Fixed fails: this system is not supported.
func Fixed(string) error { return errors.ErrUnsupported }

// Close closes the directory.
func (*Dir) Close() error { return nil }

// Path returns the path that the directory was opened by.
func (*Dir) Path() string { return "" }

// Stat fails: this system is not supported.
func (*Dir) Stat() (os.FileInfo, error) { return nil, errors.ErrUnsupported }

// Sync fails: this system is not supported.
func (*Dir) Sync() error { return errors.ErrUnsupported }

// Entries fails: this system is not supported.
func (*Dir) Entries() ([]os.DirEntry, error) { return nil, errors.ErrUnsupported }

// Child returns the path of a file in the directory.
func (*Dir) Child(name string) string { return name }

// OpenFile fails: this system is not supported.
func (*Dir) OpenFile(string, int, os.FileMode) (*os.File, error) { return nil, errors.ErrUnsupported }

// Holds reports false: this system is not supported.
func (*Dir) Holds(string, *os.File) bool { return false }

// Remove fails: this system is not supported.
func (*Dir) Remove(string) error { return errors.ErrUnsupported }

// Rename fails: this system is not supported.
func (*Dir) Rename(string, string) error { return errors.ErrUnsupported }
