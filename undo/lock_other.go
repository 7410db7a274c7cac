//go:build !linux

package undo

import (
	"errors"
	"os"
	"time"
)

// Chroot builds need Linux: where it is not, there is no journal.

func lock(*os.File, bool) error { return errors.ErrUnsupported }

func share(*os.File) error { return errors.ErrUnsupported }

func isHeld(error) bool { return false }

func syncData(f *os.File) error { return f.Sync() }

func bootID() string { return "" }

func birthTime(*os.File) time.Time { return time.Time{} }

func trusted(string, os.FileInfo) error { return errors.ErrUnsupported }
