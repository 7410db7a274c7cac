package lazydisk_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// BenchmarkSequentialRead reads a file of 1 GiB on a disk whose blocks are all in the cache, and in turn on a loop device
// over a plain file with the same content. It reports both speeds and the median of their ratios.
func BenchmarkSequentialRead(b *testing.B) {
	path := imageWithFile(b, gib)
	source := sourcetest.File(b, path)
	d := open(b, source, lazydisk.Options{Size: 2 * gib, Key: "bench", Cache: cached(b)})
	lazy, plain := fileOn(b, d.Device()), fileOn(b, plainLoop(b, path))
	readAll(b, lazy, gib) // fills the cache
	readAll(b, plain, gib)
	fetched, err := d.Stats(within(b))
	must(b, err)
	var lazyTime, plainTime time.Duration
	var ratios []float64
	used := processorTime(b, d.PID())
	for b.Loop() {
		one, other := readAll(b, plain, gib), readAll(b, lazy, gib)
		plainTime, lazyTime = plainTime+one, lazyTime+other
		ratios = append(ratios, one.Seconds()/other.Seconds())
	}
	mbs := func(t time.Duration) float64 { return float64(b.N) * gib / 1e6 / t.Seconds() }
	b.ReportMetric(mbs(lazyTime), "MB/s-lazy")
	b.ReportMetric(mbs(plainTime), "MB/s-loop")
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "×loop's-speed")
	b.ReportMetric(float64(processorTime(b, d.PID())-used)/1e9/float64(b.N), "cpu-s/GiB-of-server")
	b.ReportMetric(0, "ns/op")
	if stats, err := d.Stats(within(b)); err != nil || stats.Fetched != fetched.Fetched {
		b.Errorf("the figures are %+v, %v; at the start %+v", stats, err, fetched)
	}
}

// imageWithFile returns the image of an ext4 file system of 2 GiB with a file of this size, named data.
func imageWithFile(b *testing.B, size int64) string {
	b.Helper()
	dir := testdir.New(b)
	path := filepath.Join(dir, "image")
	must(b, os.WriteFile(path, nil, 0o600))
	must(b, os.Truncate(path, 2*gib))
	run(b, "mkfs.ext4", "-q", path)
	root, unmount := mount(b, path, "loop")
	defer unmount()
	f, err := os.Create(filepath.Join(root, "data"))
	must(b, err)
	p := make([]byte, block.Size)
	for index := range size / block.Size {
		sourcetest.Content(index, p)
		_, err := f.Write(p)
		must(b, err)
	}
	must(b, f.Close())
	return path
}

// fileOn mounts a device until the end of the test and returns the path of its file.
func fileOn(b *testing.B, device string) string {
	b.Helper()
	root, _ := mount(b, device, "ro")
	return filepath.Join(root, "data")
}

// plainLoop returns a loop device over a file, as losetup makes it.
func plainLoop(b *testing.B, path string) string {
	b.Helper()
	device := run(b, "losetup", "--find", "--show", path)
	b.Cleanup(func() { run(b, "losetup", "-d", device) })
	return device
}

// readAll reads a file or a device from its beginning, after its pages were removed from the page cache.
func readAll(b *testing.B, path string, size int64) time.Duration {
	b.Helper()
	f, err := os.Open(path)
	must(b, err)
	defer f.Close()
	must(b, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	started := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, mib))
	if err != nil || n != size {
		b.Fatalf("%d bytes were read: %v", n, err)
	}
	return time.Since(started)
}

// BenchmarkColdRead reads 512 MiB from a source whose requests take 40 ms, with and without prefetches.
func BenchmarkColdRead(b *testing.B) {
	const size = 512 * mib
	source := sourcetest.Pattern(block.Range{Count: size / block.Size})
	source.Latency = 40 * time.Millisecond
	for _, without := range []bool{false, true} {
		b.Run(fmt.Sprintf("prefetch=%v", !without), func(b *testing.B) {
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				d := open(b, source, lazydisk.Options{Size: size, Key: fmt.Sprintf("cold-%d", i), Cache: cached(b), NoPrefetch: without})
				b.StartTimer()
				readAll(b, d.Device(), size)
			}
		})
	}
}

// BenchmarkChanges reads 1 GiB of changed blocks, as an upload does.
func BenchmarkChanges(b *testing.B) {
	const size = gib
	d := open(b, nil, lazydisk.Options{Size: size})
	f := device(b, d)
	p := aligned(b, mib)
	for off := int64(0); off < size; off += mib {
		copy(p, fmt.Appendf(nil, "%d", off))
		if _, err := f.WriteAt(p, off); err != nil {
			b.Fatal(err)
		}
	}
	must(b, f.Close())
	must(b, d.Detach(within(b)))
	b.SetBytes(size)
	for b.Loop() {
		sum, err := d.Changes(within(b), 4, discard)
		if err != nil || sum.Written != size/block.Size {
			b.Fatalf("%+v, %v", sum, err)
		}
	}
}

// BenchmarkMemory measures the memory of a block server whose disk of 64 GiB is used all over, without a cache, which takes
// the most memory, and with one. TestMemory checks its bound.
func BenchmarkMemory(b *testing.B) {
	const size = 64 * gib
	source := sourcetest.Pattern(block.Range{Count: size / block.Size})
	for _, with := range []bool{false, true} {
		b.Run(fmt.Sprintf("cache=%v", with), func(b *testing.B) {
			most := 0
			for i := 0; b.Loop(); i++ {
				o := lazydisk.Options{Size: size}
				if with {
					o.Key, o.Cache = fmt.Sprintf("memory-%d", i), cached(b)
				}
				d := open(b, source, o)
				useEverywhere(b, d, size)
				_, peak := memory(b, d.PID())
				most = max(most, peak)
			}
			b.ReportMetric(float64(most), "MiB-at-most")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// processorTime returns the processor time that a process has used.
func processorTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	_, rest, _ := strings.Cut(string(raw), ") ")
	var user, system int64
	fields := strings.Fields(rest)
	_, err = fmt.Sscan(fields[11]+" "+fields[12], &user, &system)
	must(t, err)
	const tick = time.Second / 100 // of every Linux that has /proc
	return time.Duration(user+system) * tick
}

// memory returns the resident memory of a process and its highest value, in MiB.
func memory(t testing.TB, pid int) (now, peak int) {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for _, line := range strings.Split(string(raw), "\n") {
		var kib int
		if _, err := fmt.Sscanf(line, "VmRSS: %d", &kib); err == nil {
			now = kib >> 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d", &kib); err == nil {
			peak = kib >> 10
		}
	}
	return now, peak
}
