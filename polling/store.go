package polling

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/safedir"
)

// FileName is the name of the file in the state directory.
const FileName = "polling.json"

// A Store is a file in the state directory, which the builds of a user on this host share. If it
// is missing, damaged or of another user, it counts as empty. A process locks it for the time of a
// change. A reader that meets a change finds a wrong checksum. A nil Store is empty and saves
// nothing. A Store may be used by several goroutines.
type Store struct {
	// dir is the state directory.
	dir string
	// place begins the kinds of waits: the durations of one cloud mean nothing for another.
	place string

	mu sync.Mutex
	// ended are the waits that are not saved yet.
	ended []ended
}

// ended is a wait that has ended.
type ended struct {
	kind string
	span Span
}

// NewStore returns the store in a state directory, which need not exist yet; nil if dir is empty.
// place names the cloud.
func NewStore(dir, place string) *Store {
	if dir == "" {
		return nil
	}
	return &Store{dir: dir, place: place}
}

// name returns the name of a kind of wait in the file.
func (s *Store) name(kind string) string {
	name := s.place + " " + kind
	return name[max(0, len(name)-maxKindLength):]
}

// Earlier returns how long earlier waits of a kind took, the last one first.
func (s *Store) Earlier(kind string) []Span {
	if s == nil {
		return nil
	}
	return s.read().earlier(s.name(kind))
}

// Ended records the duration of a wait. Save writes it to the file.
func (s *Store) Ended(kind string, span Span) {
	if s == nil || span.After < 0 || span.By < span.After || span.By > maxDuration {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = append(s.ended, ended{s.name(kind), span})
}

// Save writes the durations of ended waits. They are lost if there is no state directory.
func (s *Store) Save() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ended) == 0 {
		return nil
	}
	err := s.change(func(content *state) {
		for _, e := range s.ended {
			content.add(e.kind, e.span)
		}
	})
	if err == nil {
		s.ended = nil
	}
	return err
}

// Throttled slows down the looks of all builds, because the cloud has throttled one.
func (s *Store) Throttled() error {
	if s == nil {
		return nil
	}
	return s.change(func(content *state) {
		var slow slowdown
		if content.Slow != nil {
			slow = *content.Slow
		}
		slow = slow.raised(time.Now())
		content.Slow = &slow
	})
}

// Slowed returns the pause for a look that would be made after d. Looks that are slowed down are
// varied, so that the builds of a host do not look together.
func (s *Store) Slowed(d time.Duration) time.Duration {
	if s == nil {
		return d
	}
	slow := s.read().Slow
	if slow == nil {
		return d
	}
	factor := slow.factor(time.Now())
	if factor <= 1 {
		return d
	}
	return max(d, varied(min(time.Duration(float64(d)*factor), longest)))
}

// read returns the content of the file.
func (s *Store) read() state {
	f, err := s.open(os.O_RDONLY)
	if err != nil {
		return state{}
	}
	defer f.Close()
	content, _ := contentOf(f) // a damaged file counts as empty
	return content
}

// change changes the content of the file, if there is a state directory.
func (s *Store) change(how func(*state)) error {
	err := s.tryChange(how)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remember the durations of waits: %w", err)
	}
	return nil
}

func (s *Store) tryChange(how func(*state)) error {
	f, err := s.open(os.O_RDWR | os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := lock(f); err != nil {
		return err
	}
	content, _ := contentOf(f) // a damaged file begins anew
	how(&content)
	data, err := content.encode()
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Truncate(0))
	}
	return f.Truncate(int64(len(data)))
}

// open opens the file, which must belong to this user alone, as its directory.
func (s *Store) open(flag int) (*os.File, error) {
	d, err := safedir.Open(s.dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.OpenFile(FileName, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if err := own(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// contentOf reads an open file.
func contentOf(f *os.File) (state, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxBytes+1))
	if err != nil {
		return state{}, err
	}
	return decode(data)
}
