package harness

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// lockDir is the directory in which builds reserve device names, by default. All test clouds create their device nodes
// in the host's /dev, so their builds must also share the reservations, as the builds on every other host do.
const lockDir = "/run/lock/packer-chroot"

// Reservations knows the files in lockDir that a box's builds have created.
type Reservations struct {
	mu  sync.Mutex
	own map[reservation]bool
}

// reservation identifies a file in lockDir. The inode number alone does not identify it, because
// it can be reused for a file of another build.
type reservation struct {
	path   string
	inode  uint64
	birth  int64
	birthN uint32
}

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
				r.add(filepath.Join(lockDir, "device-"+m[1]))
			}
		}
		next.ServeHTTP(w, req)
	})
}

func (r *Reservations) add(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if file, ok := reservationAt(path); ok {
		r.own[file] = true
	}
}

func reservationAt(path string) (r reservation, ok bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_INO|unix.STATX_BTIME, &st); err != nil {
		return reservation{}, false
	}
	return reservation{path: path, inode: st.Ino, birth: st.Btime.Sec, birthN: st.Btime.Nsec}, true
}

// Left lists the files that are still there and that no build holds.
func (r *Reservations) Left() []string {
	return r.unheld(func(string) error { return nil })
}

// Remove removes the files that no build holds.
func (r *Reservations) Remove() []string { return r.unheld(os.Remove) }

// unheld acts on each file that is still there and not locked by another build, and returns their paths.
func (r *Reservations) unheld(act func(path string) error) (paths []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for file := range r.own {
		held, err := os.Open(file.path)
		if err != nil {
			continue
		}
		locked := unix.Flock(int(held.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		if now, ok := reservationAt(file.path); locked && ok && now == file && act(file.path) == nil {
			paths = append(paths, file.path)
		}
		held.Close()
	}
	return paths
}
