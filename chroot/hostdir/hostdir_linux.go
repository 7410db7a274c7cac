package hostdir

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Missing returns the directories that must be created for a path, outermost first.
func Missing(path string) (dirs []string) {
	for path = filepath.Clean(path); ; path = filepath.Dir(path) {
		if _, err := os.Lstat(path); !errors.Is(err, unix.ENOENT) {
			slices.Reverse(dirs)
			return dirs
		}
		dirs = append(dirs, path)
	}
}

// Create creates a directory and its parents, and returns those that it has created,
// outermost first. A parent may be shared with builds that remove it when they end, so one
// that vanishes is created again.
func Create(path string) (made []string, err error) {
	const tries = 10
	for range tries {
		made, err = makeMissing(path)
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
		Remove(made)
		made = nil
	}
	return made, err
}

func makeMissing(path string) (made []string, err error) {
	if _, err := os.Stat(path); err == nil {
		return nil, nil
	}
	if made, err = makeMissing(filepath.Dir(path)); err != nil {
		return made, err
	}
	switch err := os.Mkdir(path, 0o755); {
	case errors.Is(err, os.ErrExist):
		return made, nil
	case err != nil:
		return made, err
	}
	return append(made, path), nil
}

// Remove removes directories that Create has created, or was about to, if they are empty:
// another build may use a parent by now.
func Remove(made []string) {
	for _, dir := range slices.Backward(made) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return
		}
	}
}
