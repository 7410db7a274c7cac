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

// BenchmarkSequentialRead reads 1 GiB from the device of a disk whose blocks are all in the cache,
// and in turn from a loop device over a plain file with the same content. It reports both speeds and
// the median of their ratios.
func BenchmarkSequentialRead(b *testing.B) {
	const size = gib
	source := sourcetest.Pattern(block.Range{Count: size / block.Size})
	d := open(b, source, lazydisk.Options{Size: size, Key: "bench", Cache: cached(b)})
	plain := plainLoop(b, size)
	readAll(b, d.Device(), size) // fills the cache
	readAll(b, plain, size)
	var lazy, file time.Duration
	var ratios []float64
	used := processorTime(b, d.PID())
	for b.Loop() {
		one, other := readAll(b, plain, size), readAll(b, d.Device(), size)
		file, lazy = file+one, lazy+other
		ratios = append(ratios, one.Seconds()/other.Seconds())
	}
	mbs := func(t time.Duration) float64 { return float64(b.N) * size / 1e6 / t.Seconds() }
	b.ReportMetric(mbs(lazy), "lazy-MB/s")
	b.ReportMetric(mbs(file), "loop-MB/s")
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(float64(processorTime(b, d.PID())-used)/1e9/float64(b.N), "server-cpu-s/GiB")
	b.ReportMetric(0, "ns/op")
	if stats, err := d.Stats(within(b)); err != nil || stats.Fetched != size/block.Size {
		b.Errorf("the figures are %+v, %v", stats, err)
	}
}

// plainLoop returns a loop device over a file with the content of a source, as losetup makes it.
func plainLoop(b *testing.B, size int64) string {
	b.Helper()
	path := filepath.Join(testdir.New(b), "plain")
	f, err := os.Create(path)
	must(b, err)
	p := make([]byte, block.Size)
	for index := range size / block.Size {
		sourcetest.Content(index, p)
		_, err := f.Write(p)
		must(b, err)
	}
	must(b, f.Close())
	args := []string{"--find", "--show", path}
	if os.Getenv("BENCH_DIRECT") != "" {
		args = append([]string{"--direct-io=on"}, args...)
	}
	device := run(b, "losetup", args...)
	b.Cleanup(func() { run(b, "losetup", "-d", device) })
	return device
}

// readAll reads a device from its beginning, after it has emptied the page cache of the device.
func readAll(b *testing.B, device string, size int64) time.Duration {
	b.Helper()
	f, err := os.Open(device)
	must(b, err)
	defer f.Close()
	must(b, unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0))
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
