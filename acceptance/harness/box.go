package harness

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/polling"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
)

// Through sends the calls of the box's builds to an address.
func (b *Box) Through(address string) {
	b.Env = append(b.Env, "AWS_ENDPOINT_URL="+address, "OSC_ENDPOINT_API="+address+"/api/v1")
}

// Box runs Packer with the cloud of one test.
type Box struct {
	*Cloud
	// Env is the environment of builds.
	Env []string
}

// New starts a loopcloud with the source image. When the test ends it is stopped, and the test fails if a build left
// anything on the host.
func New(t testing.TB, args ...string) *Box {
	t.Helper()
	NeedRoot(t)
	dir := ShortDir(t)
	return NewOn(t, dir, filepath.Join(dir, "cloud"), args...)
}

// NewOn is like New, with given directories for the builds' files and for the cloud.
func NewOn(t testing.TB, dir, store string, args ...string) *Box {
	t.Helper()
	b := Restored(t, dir, store)
	b.ImportSource()
	b.Serve(args...)
	b.Env = b.Environment(b.Described(Everything))
	t.Cleanup(b.Close)
	return b
}

// Restored returns a box with existing directories. Its cloud is not started.
func Restored(t testing.TB, dir, store string) *Box {
	marker := "PACKER_BUILD_TEST=" + dir
	return &Box{Cloud: &Cloud{
		Host:  &Host{TB: t, Dir: dir, Marker: marker, Reservations: &Reservations{TB: t, dir: lockDir, marker: marker}},
		Store: store, Output: &bytes.Buffer{},
	}}
}

// In returns the same box for a subtest.
func (b *Box) In(t testing.TB) *Box {
	host, cloud, own := *b.Host, *b.Cloud, *b
	host.TB = t
	cloud.Host, own.Cloud = &host, &cloud
	return &own
}

// Environment returns the environment of builds that use the APIs at this address.
func (b *Box) Environment(api string) []string {
	for _, dir := range []string{"tmp", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(b.Dir, dir), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + filepath.Join(b.Dir, "home"),
		"TMPDIR=" + filepath.Join(b.Dir, "tmp"),
		"CHECKPOINT_DISABLE=1",
		// the processes of a build run for a second and need no garbage collection
		"GOGC=off", "GOMEMLIMIT=256MiB",
		"PACKER_PLUGIN_PATH=" + Programs.Plugins,
		"PACKER_CONFIG_DIR=" + filepath.Join(b.Dir, "home"),
		"PACKER_CHROOT_STATE_DIR=" + filepath.Join(b.Dir, "state"),
		"PACKER_CHROOT_BLOCK_CACHE=" + filepath.Join(b.Dir, "cache"),
		"AWS_ENDPOINT_URL=" + api,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + b.Endpoint,
		"AWS_REGION=" + Region,
		"AWS_ACCESS_KEY_ID=" + KeyID,
		"AWS_SECRET_ACCESS_KEY=" + Secret,
		"OSC_ENDPOINT_API=" + api + "/api/v1",
		"OSC_METADATA_ENDPOINT=" + b.Endpoint,
		"OSC_REGION=" + Region,
		"OSC_ACCESS_KEY=" + KeyID,
		"OSC_SECRET_KEY=" + Secret,
		"NO_PROXY=127.0.0.1",
		b.Marker,
	}
}

// ForgetBlocks removes the block cache of the box.
func (b *Box) ForgetBlocks() {
	b.Helper()
	b.Must(remove.All(filepath.Join(b.Dir, "cache")))
}

// Close checks that builds left nothing, and stops the cloud.
func (b *Box) Close() {
	b.Clean()
	b.Stop()
	if loops := LoopsOf(b.Store); len(loops) > 0 {
		b.Errorf("loopcloud stopped and left loop devices: %v", loops)
	}
}

// Clean fails the test if a build left anything on the host.
func (b *Box) Clean() {
	b.Helper()
	for _, p := range ProcessesWith(b.Marker) {
		b.Errorf("left running: %s", p)
	}
	for _, line := range strings.Split(Read("/proc/self/mountinfo"), "\n") {
		if strings.Contains(line, b.Dir) {
			b.Errorf("left mounted: %s", line)
		}
	}
	if loops := LoopsOf(b.Store); len(loops) > 0 {
		b.Errorf("left attached: %v", loops)
	}
	for _, path := range b.Reservations.Left() {
		b.Errorf("left behind: %s", path)
	}
	for _, dir := range []string{"tmp", "state"} {
		_ = filepath.WalkDir(filepath.Join(b.Dir, dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() != polling.FileName {
				b.Errorf("left behind: %s", path)
			}
			return nil
		})
	}
}
