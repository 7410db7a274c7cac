package inotify_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/packer-chroot/packer-plugin-chroot/disk/inotify"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func open(t *testing.T) *inotify.Watcher {
	t.Helper()
	w, err := inotify.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestEvents(t *testing.T) {
	w := open(t)
	dir := testdir.New(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Add(dir, inotify.Create|inotify.Delete), w.Add(file, inotify.CloseWrite)); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "a name that needs padding")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Mkdir(other, 0o700), os.Remove(other)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(file); err != nil { // not watched
		t.Fatal(err)
	}
	got, err := w.Read()
	if err != nil {
		t.Fatal(err)
	}
	const isDir = 0x40000000
	want := []inotify.Event{
		{Path: file, Mask: inotify.CloseWrite},
		{Path: dir, Name: filepath.Base(other), Mask: inotify.Create | isDir},
		{Path: dir, Name: filepath.Base(other), Mask: inotify.Delete | isDir},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestReadDeadlineAndClose(t *testing.T) {
	w := open(t)
	if err := w.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got error %v; want the deadline's", err)
	}
	if err := w.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := w.Read()
		done <- err
	}()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got error %v; want closed", err)
	}
}

func TestAddMissingPath(t *testing.T) {
	path := filepath.Join(testdir.New(t), "gone")
	err := open(t).Add(path, inotify.Create)
	if p, ok := errors.AsType[*os.PathError](err); !ok || p.Path != path {
		t.Errorf("got error %v; want one of the path", err)
	}
}
