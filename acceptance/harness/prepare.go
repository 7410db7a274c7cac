package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// prepare installs the programs, built from the current source, in dir. The programs are built once for all test processes,
// in a directory of the user's cache and behind a lock. Every process uses a copy, so that the next build of the programs
// does not replace those that a test runs.
func prepare(dir string) error {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("cannot find the module: %w", err)
	}
	repo := filepath.Dir(strings.TrimSpace(string(out)))
	packer := filepath.Join(repo, "bin", "packer")
	if _, err := os.Stat(packer); err != nil {
		return fmt.Errorf("no packer to test with (make packer makes it): %w", err)
	}
	shared, err := sharedDir()
	if err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(shared, "lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	programs := filepath.Join(shared, "programs")
	Programs = installedIn(programs, repo, packer)
	if err := build(programs); err != nil {
		return err
	}
	Programs = installedIn(dir, repo, packer)
	return Run("cp", "-a", "--reflink=auto", programs+"/.", dir)
}

func installedIn(dir, repo, packer string) Installed {
	return Installed{
		Repo: repo, Packer: packer,
		Loopcloud: filepath.Join(dir, "loopcloud"), Plugins: filepath.Join(dir, "plugins"), Root: filepath.Join(dir, "root"), Store: filepath.Join(dir, "store"),
	}
}

// sharedDir returns the directory in which the programs are built.
func sharedDir() (string, error) {
	cache := os.Getenv("LOOPCLOUD_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		cache = filepath.Join(dir, "packer-plugin-chroot")
	}
	dir := filepath.Join(cache, "acceptance")
	return dir, os.MkdirAll(dir, 0o700)
}

// lockFile locks a file and waits if another process has locked it.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(begun) > 2*Deadline {
			file.Close()
			return nil, fmt.Errorf("cannot lock %s, in which another test process prepares the programs: %w", path, err)
		}
	}
}

// build builds the programs, and installs the plugins and makes the root file system if a source of theirs has changed.
func build(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := Run("go", "build", "-ldflags", "-s -w", "-o", dir, "./cmd/...", "./tools/real"); err != nil {
		return err
	}
	script := filepath.Join(Programs.Repo, "tools", "busybox-root.sh")
	sum, err := checksum(Programs.Plugin(Flavors[0]), Programs.Plugin(Flavors[1]), Programs.Packer, script)
	if err != nil {
		return err
	}
	stamp := filepath.Join(dir, "stamp")
	if Read(stamp) == sum {
		return nil
	}
	if err := errors.Join(remove.All(stamp), remove.All(Programs.Plugins), remove.All(Programs.Root), remove.All(Programs.Store)); err != nil {
		return err
	}
	for _, f := range Flavors {
		if err := install(f); err != nil {
			return err
		}
	}
	if err := Run(script, Programs.Root); err != nil {
		return err
	}
	if err := Run(Programs.Loopcloud, "image", "import", "--dir", Programs.Store, "--name", "busybox", "--id", SourceID, Programs.Root); err != nil {
		return err
	}
	// a cloud makes an identity and a token of its own if it has none
	if err := errors.Join(remove.All(filepath.Join(Programs.Store, "identity")), remove.All(filepath.Join(Programs.Store, "token"))); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(sum), 0o600)
}

// install installs a plugin in the directory of both, and in one of its own.
func install(f Flavor) error {
	if err := Run(Programs.Packer, "plugins", "install", "--path", Programs.Plugin(f), "github.com/packer-chroot/"+f.Name); err != nil {
		return err
	}
	const source = "github.com/packer-chroot"
	own := filepath.Join(Programs.Only(f), source)
	if err := errors.Join(remove.All(Programs.Only(f)), os.MkdirAll(own, 0o755)); err != nil {
		return err
	}
	return Run("cp", "-al", filepath.Join(Programs.Plugins, source, f.Name), own)
}

// checksum returns a checksum of files.
func checksum(paths ...string) (string, error) {
	sum := sha256.New()
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%d ", len(content))
		sum.Write(content)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
