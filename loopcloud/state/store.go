package state

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// version is the version of the format of state.json. A file of another version is refused.
const version = 1

// store is the directory that holds the state.
type store struct {
	dir  string
	lock *os.File
	// identity is the identity of the cloud.
	identity string
}

// Exists reports whether a directory holds a state.
func Exists(dir string) (bool, error) {
	_, err := os.Stat((&store{dir: dir}).file())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// openStore creates the directory if needed and locks it until close.
func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the state's directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	identity, err := identityIn(dir)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot read the cloud's identity: %w", err)
	}
	return &store{dir: dir, lock: lock, identity: identity}, nil
}

// identityIn returns the identity of the cloud in a locked directory. A new cloud gets a new one.
func identityIn(dir string) (string, error) {
	name := filepath.Join(dir, "identity")
	text, err := os.ReadFile(name)
	identity := strings.TrimSpace(string(text))
	if identity != "" || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return identity, err
	}
	identity = rand.Text()
	return identity, os.WriteFile(name, []byte(identity+"\n"), 0o644)
}

// lockFile locks a file and writes the process ID into it. The kernel releases the lock when the
// process ends.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600) // every process that can open the file can lock it
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(name)
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another loopcloud (process %s) has it open: %w", strings.TrimSpace(string(holder)), err)
		}
		return nil, err
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintln(os.Getpid()))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// close unlocks the directory. Nothing can be saved afterwards.
func (s *store) close() error {
	lock := s.lock
	s.lock = nil
	return lock.Close()
}

func (s *store) file() string { return filepath.Join(s.dir, "state.json") }

// load reads state.json. If there is none, the state is empty.
func (s *store) load() (database, error) {
	text, err := os.ReadFile(s.file())
	if errors.Is(err, fs.ErrNotExist) {
		return newDatabase(), nil
	}
	if err != nil {
		return database{}, fmt.Errorf("cannot read the state: %w", err)
	}
	db, err := decode(text)
	if err != nil {
		return database{}, fmt.Errorf("cannot read the state in %s: %w", s.file(), err)
	}
	return db, nil
}

// decode decodes the output of save and refuses everything else.
func decode(text []byte) (database, error) {
	db := newDatabase()
	db.Version = 0 // a file without a version is refused
	if err := json.Unmarshal(text, &db); err != nil {
		return database{}, err
	}
	if db.Version != version {
		return database{}, fmt.Errorf("it is of version %d, not %d", db.Version, version)
	}
	return db, db.check()
}

// save replaces state.json atomically: a reader, or a restart after a kill, sees the old or the
// new content. The new content is written over the previous version but one, so that a full disk
// does not prevent saving a deletion that frees space.
func (s *store) save(db *database) error {
	if s.lock == nil {
		return errors.New("cannot save the state: it is closed")
	}
	text, err := json.Marshal(db)
	if err != nil {
		return fmt.Errorf("cannot save the state: %w", err)
	}
	next := s.file() + ".new"
	if err := writeOver(next, text); err != nil {
		return fmt.Errorf("cannot save the state: %w", err)
	}
	if unix.Renameat2(unix.AT_FDCWD, next, unix.AT_FDCWD, s.file(), unix.RENAME_EXCHANGE) == nil {
		return nil
	}
	if err := os.Rename(next, s.file()); err != nil { // there was no previous version, or the file system cannot exchange files
		return fmt.Errorf("cannot save the state: %w", err)
	}
	return nil
}

// writeOver overwrites a file with this content, padded with blank lines. A file that is too
// short becomes twice as long as needed.
func writeOver(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	length := info.Size()
	if length < int64(len(text)) {
		length = 2 * int64(len(text))
	}
	blank := bytes.Repeat([]byte("\n"), int(length)-len(text))
	_, err = f.WriteAt(append(text, blank...), 0)
	return errors.Join(err, f.Sync(), f.Close())
}
