package undo

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// ErrAlive is wrapped if the build of a journal is running, or another process is
// cleaning up after it.
var ErrAlive = errors.New("the journal is in use")

// mostBytes bounds the size of a journal: those of the longest builds have some ten
// thousand bytes.
const mostBytes = 16 << 20

// Peek reads the header of a journal without locking it. An error wraps os.ErrNotExist
// if it is gone, ErrTorn if it cannot be read, or if its build has not begun it yet, and
// ErrNewer.
func Peek(path string) (Header, error) {
	d, f, err := openJournal(path)
	if err != nil {
		return Header{}, err
	}
	defer d.Close()
	defer f.Close()
	text, err := readBounded(f)
	if err != nil {
		return Header{}, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	l, _, err := decode(append(line, '\n'), "")
	return l.header, err
}

// Alive reports whether the build of a journal is running, or another process is cleaning
// up after it.
func Alive(path string) (bool, error) {
	d, f, err := openJournal(path)
	if err != nil {
		return false, err
	}
	defer d.Close()
	defer f.Close()
	if err := share(f); !isHeld(err) {
		return false, err
	}
	return true, nil
}

// Find returns the path of a build's journal, even if it was set aside. An error wraps
// os.ErrNotExist if there is none.
func Find(dir, build string) (string, error) {
	if !validBuild.MatchString(build) {
		return "", fmt.Errorf("%q is not the id of a build", build)
	}
	d, err := trustedDir(safedir.Open(dir))
	if err == nil {
		defer d.Close()
		for _, end := range []string{suffix, suffixTorn, suffixNewer} {
			if _, err := os.Lstat(d.Child(build + end)); !errors.Is(err, os.ErrNotExist) {
				return d.Child(build + end), err
			}
		}
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	return "", fmt.Errorf("there is no journal of build %s in %s: %w", build, dir, os.ErrNotExist)
}

// Forget removes a journal, damaged or not, without undoing anything. An error wraps
// ErrAlive if its build is running.
func Forget(path string) error {
	j, err := take(path)
	if j == nil {
		return err
	}
	defer j.letGo()
	return j.remove()
}

// inherit takes over the journal of a build that has ended. Its errors are those of
// Resume.
func inherit(path string) (*journal, error) {
	j, err := take(path)
	if err == nil {
		err = j.file.Truncate(j.size) // further records are written behind the last whole one
	}
	switch {
	case err == nil:
		return j, nil
	case errors.Is(err, ErrTorn), errors.Is(err, ErrNewer):
		err = j.setAside(err)
	case errors.Is(err, errEmpty):
		err = errors.Join(err, j.remove())
	}
	if j != nil {
		j.letGo()
	}
	return nil, err
}

// Inspect reads the journal of a build that has ended, and returns its outstanding acts in
// the order in which they were begun. It changes nothing. Its errors are those of Resume.
func Inspect(path string) (Header, []Recorded, error) {
	j, err := take(path)
	if j == nil {
		return Header{}, nil, err
	}
	defer j.letGo()
	return j.header, j.replayed.outstanding(), err
}

// errEmpty is the error for a journal whose build ended before it had begun anything.
var errEmpty = fmt.Errorf("the journal is empty: %w", os.ErrNotExist)

// lockSoon locks a file that Alive may have locked for a moment.
func lockSoon(f *os.File) (err error) {
	for range 3 {
		if err = lock(f, false); !isHeld(err) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// take locks a journal and reads it. If it could be locked, the journal is returned also
// beside an error.
func take(path string) (*journal, error) {
	d, f, err := openJournal(path)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, dir: d, file: f}
	err = lockSoon(f)
	if isHeld(err) {
		err = fmt.Errorf("%w: %s", ErrAlive, path)
	} else if err == nil && !d.Holds(j.name(), f) { // its owner has removed it meanwhile
		err = &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	}
	if err != nil {
		j.letGo()
		return nil, err
	}
	text, err := readBounded(f)
	if err != nil {
		return j, err
	}
	if len(text) == 0 {
		return j, errEmpty
	}
	var size int
	j.replayed, size, err = decodeOf(path, text)
	j.header, j.size = j.replayed.header, int64(size)
	return j, err
}

// decodeOf reads a journal, which must be named after its build.
func decodeOf(path string, text []byte) (replay, int, error) {
	l, size, err := decode(text, bootID())
	if name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)); err == nil && l.header.Build != name {
		err = fmt.Errorf("%w: it is of build %s", ErrTorn, l.header.Build)
	}
	return l, size, err
}

// letGo closes a journal and leaves it unchanged.
func (j *journal) letGo() {
	j.file.Close()
	j.dir.Close()
}

// openJournal opens a journal. The file and its directory must belong to this user.
func openJournal(path string) (*safedir.Dir, *os.File, error) {
	d, err := trustedDir(safedir.Open(filepath.Dir(path)))
	if err != nil {
		return nil, nil, err
	}
	f, err := d.OpenFile(filepath.Base(path), os.O_RDWR, 0)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	info, err := f.Stat()
	if err == nil {
		err = trusted(path, info)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close(), d.Close())
	}
	return d, f, nil
}

func readBounded(f *os.File) ([]byte, error) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, mostBytes+1))
	if err == nil && len(text) > mostBytes {
		err = fmt.Errorf("%w: %s is longer than %d bytes", ErrTorn, f.Name(), mostBytes)
	}
	return text, err
}

// setAside renames a journal that cannot be trusted, so that no process looks at it
// again.
func (j *journal) setAside(why error) error {
	aside := strings.TrimSuffix(j.name(), suffix)
	build := cmp.Or(j.header.Build, aside)
	if errors.Is(why, ErrNewer) {
		aside += suffixNewer
	} else {
		aside += suffixTorn
	}
	if err := j.dir.Rename(j.name(), aside); err != nil {
		return fmt.Errorf("build %s: %w; it cannot be set aside: %w", build, why, err)
	}
	return fmt.Errorf("build %s: %w; it is set aside as %s", build, why, j.dir.Child(aside))
}
