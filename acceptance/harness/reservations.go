package harness

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lockDir is the directory in which builds reserve device names, by default. All test clouds create their device nodes
// in the host's /dev, so their builds must also share the reservations, as the builds on every other host do.
const lockDir = "/run/lock/packer-chroot"

// Reservations are the files of a lock directory that builds of one box have used last. The file of a killed build is used
// again by the next build that reserves the name, which may be one of another test process. So each file carries the
// marker of the last box in an extended attribute.
type Reservations struct {
	testing.TB
	dir, marker string
}

// boxAttribute is the extended attribute with the marker of a box.
const boxAttribute = "trusted.packer-chroot-test"

var deviceName = regexp.MustCompile(`/dev/(?:sd|xvd)([a-z]+)`)

// watch passes requests on. When a build asks the cloud to attach a volume, it holds the reservation of the name.
func (r *Reservations) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		if strings.HasSuffix(req.URL.Path, "/LinkVolume") || bytes.Contains(body, []byte("Action=AttachVolume")) {
			text, _ := url.QueryUnescape(string(body))
			if m := deviceName.FindStringSubmatch(text); m != nil {
				r.add("device-" + m[1])
			}
		}
		next.ServeHTTP(w, req)
	})
}

// add marks a file if a build of the box holds it. A build with a lock directory of its own does not.
func (r *Reservations) add(name string) {
	path := filepath.Join(r.dir, name)
	if !slices.ContainsFunc(lockHolders(path), func(pid int) bool { return isWith(pid, r.marker) }) {
		return
	}
	if err := unix.Lsetxattr(path, boxAttribute, []byte(r.marker), 0); err != nil {
		r.Errorf("cannot mark %s as a file of this test: %v", path, err)
	}
}

// lockHolders returns the processes that have locked a file by flock(2), from /proc/locks.
func lockHolders(path string) (pids []int) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return nil
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for line := range strings.Lines(Read("/proc/locks")) {
		// 1: FLOCK  ADVISORY  WRITE 708 08:01:266 0 EOF
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || f[5] != file {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// isOwn reports whether the last build that used a file was one of the box.
func (r *Reservations) isOwn(path string) bool {
	marker := make([]byte, 4096)
	n, err := unix.Lgetxattr(path, boxAttribute, marker)
	return err == nil && string(marker[:n]) == r.marker
}

// Left lists the files that are still there and that no build holds.
func (r *Reservations) Left() []string {
	return r.unheld(func(string) error { return nil })
}

// Remove removes the files that no build holds.
func (r *Reservations) Remove() []string { return r.unheld(os.Remove) }

// unheld acts on each file that is still there and not locked by another build, and returns their paths.
func (r *Reservations) unheld(act func(path string) error) (paths []string) {
	all, _ := filepath.Glob(filepath.Join(r.dir, "device-*"))
	for _, path := range all {
		lock, err := os.Open(path)
		if err != nil {
			continue
		}
		locked := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		// the file that was locked may have been removed since, and another one created by another build
		if locked && r.isOwn(path) && sameFile(lock, path) && act(path) == nil {
			paths = append(paths, path)
		}
		lock.Close()
	}
	return paths
}

// sameFile reports whether an open file is still at a path.
func sameFile(open *os.File, path string) bool {
	one, err := open.Stat()
	if err != nil {
		return false
	}
	other, err := os.Lstat(path)
	return err == nil && os.SameFile(one, other)
}
