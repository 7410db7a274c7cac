//go:build linux

package loopcloud_test

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

// tokenOf opens and closes the cloud in a directory, and returns its control token.
func tokenOf(t *testing.T, dir string) string {
	t.Helper()
	s, err := loopcloud.New(loopcloud.Options{Dir: dir, Keys: []state.Key{key}})
	if err != nil {
		t.Fatal(err)
	}
	token, file := s.Token()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if read, err := loopcloud.ReadToken(file); err != nil || read != token {
		t.Errorf("%s holds %q, not %q (%v)", file, read, token, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file is %v (%v)", info, err)
	}
	if raw, err := hex.DecodeString(token); err != nil || len(raw) != 32 {
		t.Errorf("the token %q has not 256 bits", token)
	}
	return token
}

func TestTokenIsKept(t *testing.T) {
	dir := filepath.Join(testdir.New(t), "made", "when needed")
	first := tokenOf(t, dir)
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory is %v (%v)", info, err)
	}
	if again := tokenOf(t, dir); again != first {
		t.Errorf("the token %q became %q", first, again)
	}
	if other := tokenOf(t, testdir.New(t)); other == first {
		t.Error("two clouds have one token")
	}
}

// TestTokenIsReplaced checks that an invalid token, and one that others could read, are
// replaced.
func TestTokenIsReplaced(t *testing.T) {
	dir := testdir.New(t)
	old := tokenOf(t, dir)
	file := loopcloud.TokenFile(dir)
	for name, spoil := range map[string]func() error{
		"readable": func() error { return os.Chmod(file, 0o644) },
		"cut":      func() error { return os.Truncate(file, 10) },
		"empty":    func() error { return os.Truncate(file, 0) },
		"another":  func() error { return os.WriteFile(file, []byte("known to everybody"), 0o600) },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		next := tokenOf(t, dir)
		if next == old {
			t.Errorf("%s: the token is still %q", name, old)
		}
		old = next
	}
}

func TestReadToken(t *testing.T) {
	file := filepath.Join(testdir.New(t), "token")
	for _, text := range []string{"", "\n", "two words", "a\nb", "\x00", "naïve"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if token, err := loopcloud.ReadToken(file); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q was read as %q (%v)", text, token, err)
		}
	}
}

// TestDirOfOthers checks that users who can write to a cloud's directory can replace its
// disks.
func TestDirOfOthers(t *testing.T) {
	testroot.Need(t, "owners")
	const mallory = 45001
	top := testdir.New(t)
	at := func(name string) string { return filepath.Join(top, name) }
	must := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	must(os.Mkdir(at("open"), 0o700), os.Chmod(at("open"), 0o777))
	must(os.Mkdir(at("mallory's"), 0o700), os.Chown(at("mallory's"), mallory, mallory))
	must(os.Mkdir(at("tmp"), 0o700), os.Chmod(at("tmp"), 0o1777|os.ModeSticky))
	must(os.Mkdir(at("mine"), 0o700), os.Symlink(at("mine"), at("tmp/link")), os.Lchown(at("tmp/link"), mallory, mallory))
	must(os.Symlink(at("mine"), at("link")), os.Symlink(at("elsewhere"), at("mine/token")))
	for path, why := range map[string]string{
		"open": "can be written to by others", "mallory's": "user 45001", "tmp/link": "user 45001",
		"mine": "symbolic link", // its token is a symbolic link
	} {
		s, err := loopcloud.New(loopcloud.Options{Dir: at(path), Keys: []state.Key{key}})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), at("")[:5]) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := os.Lstat(at("elsewhere")); !os.IsNotExist(err) {
		t.Errorf("a link was followed: %v", err)
	}
	must(os.Remove(at("mine/token")))
	if through, direct := tokenOf(t, at("link")), tokenOf(t, at("mine")); through != direct {
		t.Errorf("a link of our own leads to another cloud")
	}
}
