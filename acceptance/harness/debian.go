package harness

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Debian is a minimal Debian with a repository of its packages.
type Debian struct {
	// Root is a tar archive of the root file system, about 200 MB.
	Root string
	// Packages is the directory of a repository with nginx and the packages that it needs beside those of Root.
	Packages string
}

// NeedDebian returns a Debian. The first time it is downloaded with debootstrap, for all test processes, into a directory of
// the user's cache. Without debootstrap the test is skipped; in CI it fails.
func NeedDebian(t testing.TB) Debian {
	t.Helper()
	if _, err := exec.LookPath("debootstrap"); err != nil {
		if CI {
			t.Fatal("no debootstrap")
		}
		t.Skip("needs debootstrap (Debian's package debootstrap)")
	}
	dir, err := debian()
	Must(t, err)
	return Debian{Root: filepath.Join(dir, "root.tar"), Packages: filepath.Join(dir, "packages")}
}

// debian returns the directory that tools/debian-root.sh fills. Its name changes with the script.
func debian() (string, error) {
	shared, err := sharedDir()
	if err != nil {
		return "", err
	}
	script := filepath.Join(Programs.Repo, "tools", "debian-root.sh")
	sum, err := checksum(script)
	if err != nil {
		return "", err
	}
	lock, err := lockFile(filepath.Join(shared, "debian.lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close()
	dir := filepath.Join(shared, "debian-"+sum[:12])
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return dir, err
	}
	return dir, Run(script, dir)
}
