//go:build !linux

package polling

import (
	"errors"
	"os"
)

// Chroot builds need Linux: where it is not, nothing is remembered.

func lock(*os.File) error { return errors.ErrUnsupported }

func own(*os.File) error { return errors.ErrUnsupported }
