package undo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
	f, err := openJournal(path)
	if err != nil {
		return Header{}, err
	}
	defer f.Close()
	text, err := readBounded(f)
	if err != nil {
		return Header{}, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	l, err := decode(append(line, '\n'))
	return l.header, err
}

// Inherit takes the journal of a dead build, to undo what is outstanding. An error
// wraps ErrAlive when the build lives, os.ErrNotExist when there is nothing to
// inherit, and ErrTorn or ErrNewer when the journal cannot be trusted: it has then
// been set aside, and the error names the file.
func Inherit(path string) (*Journal, error) {
	f, err := openJournal(path)
	if err != nil {
		return nil, err
	}
	j, err := inherit(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func inherit(f *os.File, path string) (*Journal, error) {
	if err := lock(f, false); isHeld(err) {
		return nil, fmt.Errorf("%w: %s", ErrAlive, path)
	} else if err != nil {
		return nil, err
	}
	if !isAt(f, path) { // its owner has removed it meanwhile
		return nil, &os.PathError{Op: "open", Path: path, Err: os.ErrNotExist}
	}
	text, err := readBounded(f)
	if err == nil && len(text) == 0 { // its build ended before it had begun anything
		return nil, errors.Join(os.ErrNotExist, os.Remove(path))
	}
	var l ledger
	if err == nil {
		l, err = decodeOf(path, text)
	}
	switch {
	case errors.Is(err, ErrTorn), errors.Is(err, ErrNewer):
		return nil, setAside(path, l.header, err)
	case err != nil:
		return nil, err
	}
	return &Journal{header: l.header, path: path, file: f, size: int64(len(text)), ledger: l}, nil
}

// decodeOf reads the journal that is named after its build.
func decodeOf(path string, text []byte) (ledger, error) {
	l, err := decode(text)
	if err == nil && l.header.Build+suffix != filepath.Base(path) {
		err = fmt.Errorf("%w: it is of build %s", ErrTorn, l.header.Build)
	}
	return l, err
}

// openJournal opens what must be a file of this user's own.
func openJournal(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|noFollow, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err == nil {
		err = trusted(path, info)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
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
func setAside(path string, h Header, why error) error {
	aside := strings.TrimSuffix(path, suffix)
	if errors.Is(why, ErrNewer) {
		aside += ".newer"
	} else {
		aside += ".torn"
	}
	build := h.Build
	if build == "" {
		build = strings.TrimSuffix(filepath.Base(path), suffix)
	}
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("build %s: %w; it cannot be set aside: %w", build, why, err)
	}
	return fmt.Errorf("build %s: %w; it is set aside as %s", build, why, aside)
}
