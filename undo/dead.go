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

// ErrAlive is wrapped when a journal's build lives, or somebody else is cleaning up
// after it.
var ErrAlive = errors.New("the journal is in use")

// mostBytes bounds what is read of a journal: those of the longest builds have some
// ten thousand bytes.
const mostBytes = 16 << 20

// Peek reads whose journal it is, without taking it. An error wraps os.ErrNotExist
// when it is gone, ErrTorn when it cannot be read, or when its build has not begun it
// yet, and ErrNewer.
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

// Alive reports whether the build of a journal lives, or somebody else is cleaning up
// after it.
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

// Find returns the path of a build's journal, or of what is set aside of it. An error
// wraps os.ErrNotExist if there is none.
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
// ErrAlive if its build lives.
func Forget(path string) error {
	j, err := take(path)
	if j == nil {
		return err
	}
	defer j.letGo()
	return j.remove()
}

// Inherit takes the journal of a dead build, to undo what is outstanding. An error
// wraps ErrAlive when the build lives, os.ErrNotExist when there is nothing to
// inherit, and ErrTorn or ErrNewer when the journal cannot be trusted: it has then
// been set aside, and the error names the file.
func Inherit(path string) (*Journal, error) {
	j, err := take(path)
	if err == nil {
		err = j.file.Truncate(j.size) // what follows is written behind what stands
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

// Inspect reads the journal of a dead build and changes nothing. Its errors are
// those of Inherit.
func Inspect(path string) (Header, []Pending, error) {
	j, err := take(path)
	if j == nil {
		return Header{}, nil, err
	}
	defer j.letGo()
	return j.header, j.ledger.pending, err
}

// errEmpty is a journal whose build ended before it had begun anything.
var errEmpty = fmt.Errorf("the journal is empty: %w", os.ErrNotExist)

// lockSoon locks a file that is not locked for long: Alive may have it for a moment.
func lockSoon(f *os.File) (err error) {
	for range 3 {
		if err = lock(f, false); !isHeld(err) {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// take locks a journal and reads it. It is answered, locked, with an error too, if
// the lock could be had.
func take(path string) (*Journal, error) {
	d, f, err := openJournal(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{path: path, dir: d, file: f}
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
	j.ledger, size, err = decodeOf(path, text)
	j.header, j.size = j.ledger.header, int64(size)
	return j, err
}

// decodeOf reads the journal that is named after its build.
func decodeOf(path string, text []byte) (ledger, int, error) {
	l, size, err := decode(text, bootID())
	if name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)); err == nil && l.header.Build != name {
		err = fmt.Errorf("%w: it is of build %s", ErrTorn, l.header.Build)
	}
	return l, size, err
}

// letGo closes a journal that is left as it is.
func (j *Journal) letGo() {
	j.file.Close()
	j.dir.Close()
}

// openJournal opens a journal, which must be a file of this user's own in a directory of
// this user's own.
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

// setAside gives a journal that cannot be trusted another name, under which nobody
// looks for it but a person.
func (j *Journal) setAside(why error) error {
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
