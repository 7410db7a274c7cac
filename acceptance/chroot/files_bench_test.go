package chroot

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/acceptance/harness"
	"github.com/packer-chroot/packer-plugin-chroot/chroot"
	"github.com/packer-chroot/packer-plugin-chroot/remove"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// BenchmarkFiles measures copying into a root and out of it, and cp -a between the same file systems.
func BenchmarkFiles(b *testing.B) {
	harness.NeedRoot(b)
	root := benchRoot(b)
	host := testdir.New(b)
	trees := map[string]string{"512 MB": largeFile(b, host), "10000 files": smallFiles(b, host)}
	for name, src := range trees {
		in := filepath.Join(root.Path(), filepath.Base(src))
		harness.Must(b, root.UploadDir(b.Context(), "/", src, nil))
		b.Run("up/"+name, func(b *testing.B) {
			besideCp(b, src, filepath.Join(root.Path(), "copy"), func(string) error {
				return root.UploadDir(b.Context(), "/copy", src+"/", nil)
			})
		})
		b.Run("down/"+name, func(b *testing.B) {
			besideCp(b, in, filepath.Join(host, "copy"), func(to string) error {
				return root.DownloadDir(b.Context(), "/"+filepath.Base(src)+"/", to, nil)
			})
		})
	}
}

// besideCp compares copying a directory with cp -a, each in turn to a new directory, with no unwritten data.
func besideCp(b *testing.B, from, to string, ours func(to string) error) {
	b.Helper()
	fresh := func(copying func() error) time.Duration {
		harness.Must(b, remove.All(to))
		unix.Sync()
		start := time.Now()
		harness.Must(b, copying())
		return time.Since(start)
	}
	var us, cp time.Duration
	turns := []func(){
		func() { cp += fresh(func() error { return exec.Command("cp", "-a", from, to).Run() }) },
		func() { us += fresh(func() error { return ours(to) }) },
	}
	for b.Loop() {
		for _, turn := range turns {
			turn()
		}
		slices.Reverse(turns) // whoever is first meets another disk
	}
	harness.Must(b, remove.All(to))
	b.ReportMetric(float64(us.Milliseconds())/float64(b.N), "ms/copy")
	b.ReportMetric(float64(cp.Milliseconds())/float64(b.N), "ms/cp")
	b.ReportMetric(cp.Seconds()/us.Seconds(), "×cp's-speed")
}

// benchRoot returns a root of 4 GiB on a block device.
func benchRoot(b *testing.B) *chroot.MountedRoot {
	b.Helper()
	dir := testdir.New(b)
	disk := filepath.Join(dir, "disk")
	harness.Must(b, os.WriteFile(disk, nil, 0o600))
	harness.Must(b, os.Truncate(disk, 4<<30))
	harness.Must(b, harness.Run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk))
	out, err := exec.Command("losetup", "--find", "--show", disk).Output()
	harness.Must(b, err)
	device := string(out[:len(out)-1])
	b.Cleanup(func() { harness.Must(b, harness.Run("losetup", "--detach", device)) })
	keeper, err := chroot.Start(chroot.Options{})
	harness.Must(b, err)
	path := filepath.Join(dir, "root")
	root, err := keeper.Mount(b.Context(), chroot.MountSpec{Device: device, Path: path})
	harness.Must(b, err)
	b.Cleanup(func() { harness.Must(b, keeper.Leave(context.Background(), path)) })
	return root
}

func largeFile(b *testing.B, dir string) string {
	b.Helper()
	dir = filepath.Join(dir, "large")
	harness.Must(b, os.Mkdir(dir, 0o755))
	f, err := os.Create(filepath.Join(dir, "file"))
	harness.Must(b, err)
	random, block := rand.NewChaCha8([32]byte{1}), make([]byte, 1<<20)
	for range 512 {
		_, _ = random.Read(block)
		_, err := f.Write(block)
		harness.Must(b, err)
	}
	harness.Must(b, f.Close())
	return dir
}

func smallFiles(b *testing.B, dir string) string {
	b.Helper()
	dir = filepath.Join(dir, "small")
	for i := range 100 {
		sub := filepath.Join(dir, strconv.Itoa(i))
		harness.Must(b, os.MkdirAll(sub, 0o755))
		for j := range 100 {
			harness.Must(b, os.WriteFile(filepath.Join(sub, strconv.Itoa(j)), make([]byte, 100+i*j), 0o644))
		}
	}
	return dir
}
