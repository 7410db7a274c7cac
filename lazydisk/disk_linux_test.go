package lazydisk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/cache"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/loop"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/sourcetest"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// discard is a function for Changes.
func discard(context.Context, lazydisk.Change) error { return nil }

// changes detaches a disk and returns its changes, with copies of their contents.
func changes(t testing.TB, d *lazydisk.Disk) (map[int64]lazydisk.Change, lazydisk.Summary) {
	t.Helper()
	must(t, d.Detach(within(t)))
	var mu sync.Mutex
	found := map[int64]lazydisk.Change{}
	sum, err := d.Changes(within(t), 4, func(_ context.Context, c lazydisk.Change) error {
		c.Data = bytes.Clone(c.Data)
		if c.Sum != sha256.Sum256(c.Data) {
			t.Errorf("block %d does not have its checksum", c.Index)
		}
		mu.Lock()
		defer mu.Unlock()
		found[c.Index] = c
		return nil
	})
	must(t, err)
	return found, sum
}

// upload writes changes over a copy of the source, as an incremental snapshot has them.
func upload(t testing.TB, source string, size int64, found map[int64]lazydisk.Change) string {
	t.Helper()
	path := filepath.Join(testdir.New(t), "result")
	if source == "" {
		must(t, os.WriteFile(path, nil, 0o600))
	} else {
		run(t, "cp", "--sparse=always", source, path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	must(t, f.Truncate(size))
	for index, c := range found {
		_, err := f.WriteAt(c.Data, index*block.Size)
		must(t, err)
	}
	return path
}

// TestReadFetches: blocks are fetched when they are read, and absent ones are zeros.
func TestReadFetches(t *testing.T) {
	source := sourcetest.Pattern(block.Range{First: 1, Count: 2}, block.Range{First: 5, Count: 1})
	d := open(t, source, lazydisk.Options{Size: 8 * block.Size, Key: "test", Cache: cached(t)})
	f := device(t, d)
	p, want := aligned(t, block.Size), make([]byte, block.Size)
	for index := range int64(8) {
		if _, err := f.ReadAt(p, index*block.Size); err != nil {
			t.Fatal(err)
		}
		clear(want)
		if index == 1 || index == 2 || index == 5 {
			sourcetest.Content(index, want)
		}
		if !bytes.Equal(p, want) {
			t.Errorf("block %d has the wrong content", index)
		}
	}
	if all, most := source.Requests(); all != 3 || most != 1 {
		t.Errorf("%d requests, %d for a block", all, most)
	}
	stats, err := d.Stats(within(t))
	if err != nil || stats.Fetched != 3 || stats.CacheError != "" || stats.Uncached != 0 {
		t.Errorf("the figures are %+v, %v", stats, err)
	}
}

// TestChanges: each kind of change is reported as it should be, and the rest of a block that was written
// in part comes from the source.
func TestChanges(t *testing.T) {
	source := sourcetest.Pattern(block.Range{Count: 6})
	d := open(t, source, lazydisk.Options{Size: 10 * block.Size, Key: "test", Cache: cached(t)})
	f := device(t, d)
	page := aligned(t, block.PageSize)
	write := func(off int64, p []byte) {
		t.Helper()
		_, err := f.WriteAt(p, off)
		must(t, err)
	}
	copy(page, "new")
	write(1*block.Size+8*block.PageSize, page) // a part of a block
	same := aligned(t, block.Size)
	sourcetest.Content(2, same)
	write(2*block.Size, same) // the same content
	zeros := aligned(t, block.Size)
	write(3*block.Size, zeros)                 // zeros over data
	write(7*block.Size, zeros)                 // zeros over nothing
	write(9*block.Size+block.PageSize*3, page) // behind the end of the source
	sector := aligned(t, 512)
	copy(sector, "sector")
	write(5*block.Size+512, sector) // less than a page
	must(t, punch(f, 4*block.Size, block.Size))
	must(t, f.Close())
	found, sum := changes(t, d)
	var got []string
	for index, c := range found {
		got = append(got, fmt.Sprintf("%d zero=%v parent=%v", index, c.Zero, c.InParent))
	}
	slices.Sort(got)
	want := []string{
		"1 zero=false parent=true", "3 zero=true parent=true", "4 zero=true parent=true", "5 zero=false parent=true",
		"7 zero=true parent=false", "9 zero=false parent=false",
	}
	if !slices.Equal(got, want) || sum != (lazydisk.Summary{Written: 7, Equal: 1}) {
		t.Errorf("the changes are %q and %+v, want %q", got, sum, want)
	}
	whole := make([]byte, block.Size)
	sourcetest.Content(1, whole)
	copy(whole[8*block.PageSize:], page)
	if !bytes.Equal(found[1].Data, whole) {
		t.Error("the block that was written in part has the wrong content")
	}
	sourcetest.Content(5, whole)
	copy(whole[512:], sector)
	if !bytes.Equal(found[5].Data, whole) {
		t.Error("the block in which a sector was written has the wrong content")
	}
}

// TestChangesOfAnAttachedDisk: changes cannot be read while the device may still be written.
func TestChangesOfAnAttachedDisk(t *testing.T) {
	d := open(t, nil, lazydisk.Options{Size: 8 * mib})
	if _, err := d.Changes(within(t), 1, discard); err == nil || !strings.Contains(err.Error(), "still attached") {
		t.Errorf("the changes are returned: %v", err)
	}
	if found, _ := changes(t, d); len(found) != 0 {
		t.Errorf("%d blocks have changed", len(found))
	}
}

// TestDetachInUse: a mounted device is not detached, and its file system is not harmed. After it is
// unmounted, the changes can be read.
func TestDetachInUse(t *testing.T) {
	d := open(t, nil, lazydisk.Options{Size: 64 * mib})
	run(t, "mkfs.ext4", "-q", d.Device())
	dir, unmount := mount(t, d.Device(), "defaults")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := d.Detach(ctx); !errors.Is(err, loop.ErrInUse) {
		t.Errorf("the error is %v", err)
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644))
	unmount()
	if found, _ := changes(t, d); len(found) == 0 {
		t.Error("no block has changed")
	}
}

// punch discards a range of a block device.
func punch(f *os.File, off, length int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
}

// sourceImage makes an ext4 file system with files in an image file.
func sourceImage(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(testdir.New(t), "source")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, size))
	run(t, "mkfs.ext4", "-q", path)
	dir, unmount := mount(t, path, "loop")
	for i := range 40 {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file%d", i)), bytes.Repeat([]byte{byte(i + 1)}, 100_000*(1+i%7)), 0o644))
	}
	unmount()
	return path
}

// TestFileSystem changes an ext4 file system on a disk that is larger than its source, grows it, and
// compares the uploaded result. The second disk of the same source fetches nothing.
func TestFileSystem(t *testing.T) {
	needRoot(t)
	const size = 256 * mib
	path := sourceImage(t, 128*mib)
	shared := cached(t)
	for round := range 2 {
		source := sourcetest.File(t, path)
		d := open(t, source, lazydisk.Options{Size: size, Key: "fs", Cache: shared})
		run(t, "e2fsck", "-f", "-p", d.Device())
		run(t, "resize2fs", d.Device())
		dir, unmount := mount(t, d.Device(), "discard")
		for i := range 40 {
			p, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("file%d", i)))
			if err != nil || !bytes.Equal(p, bytes.Repeat([]byte{byte(i + 1)}, 100_000*(1+i%7))) {
				t.Errorf("file %d: %v, or the wrong content", i, err)
			}
		}
		must(t, os.WriteFile(filepath.Join(dir, "file3"), []byte("changed"), 0o644))
		must(t, os.WriteFile(filepath.Join(dir, "large"), bytes.Repeat([]byte("large"), 8*mib), 0o644))
		must(t, os.Remove(filepath.Join(dir, "file6")))
		run(t, "fstrim", dir)
		unmount()
		stats, err := d.Stats(within(t))
		must(t, err)
		found, sum := changes(t, d)
		t.Logf("%+v; %d blocks to upload, %+v", stats, len(found), sum)
		if requests, _ := source.Requests(); round == 1 && requests != 0 {
			t.Errorf("the second disk has fetched %d blocks", requests)
		}
		result := upload(t, path, size, found)
		run(t, "e2fsck", "-f", "-n", result)
		dir, unmount = mount(t, result, "loop,ro")
		p, err := os.ReadFile(filepath.Join(dir, "large"))
		if err != nil || !bytes.Equal(p, bytes.Repeat([]byte("large"), 8*mib)) {
			t.Errorf("the large file: %v, or the wrong content", err)
		}
		if p, err := os.ReadFile(filepath.Join(dir, "file3")); err != nil || string(p) != "changed" {
			t.Errorf("the changed file is %q, %v", p, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "file6")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the removed file: %v", err)
		}
		unmount()
	}
}

// TestEmptyDisk makes a file system on a disk without a source. Discarded and zero blocks are not
// written.
func TestEmptyDisk(t *testing.T) {
	const size = 2 * gib
	d := open(t, nil, lazydisk.Options{Size: size})
	run(t, "mkfs.ext4", "-q", d.Device())
	dir, unmount := mount(t, d.Device(), "defaults")
	must(t, os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o644))
	unmount()
	found, _ := changes(t, d)
	if len(found) == 0 || len(found) > 200 {
		t.Errorf("%d blocks have changed", len(found))
	}
	for index, c := range found {
		if c.InParent {
			t.Errorf("block %d is in a parent", index)
		}
	}
	result := upload(t, "", size, found)
	dir, _ = mount(t, result, "loop,ro")
	if p, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(p) != "content" {
		t.Errorf("the file is %q, %v", p, err)
	}
}

// TestUnreadableBlock: a block that cannot be fetched fails the read with an I/O error in bounded time,
// the reason is known, no change is returned, and the file system can be unmounted.
func TestUnreadableBlock(t *testing.T) {
	needRoot(t)
	path := sourceImage(t, 64*mib)
	source := sourcetest.File(t, path)
	broken := make(chan struct{})
	source.Fault = func(context.Context, int64, int, []byte) error {
		select {
		case <-broken:
			return errors.New("the network is away")
		default:
			return nil
		}
	}
	d := open(t, source, lazydisk.Options{
		Size: 64 * mib, Key: "fs", Cache: cached(t), NoPrefetch: true,
		Limits: fetchLimits(200*time.Millisecond, time.Second),
	})
	dir, unmount := mount(t, d.Device(), "errors=remount-ro")
	must(t, os.WriteFile(filepath.Join(dir, "new"), []byte("new"), 0o644))
	close(broken)
	var readErr error
	for i := range 40 {
		if _, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("file%d", i))); err != nil {
			readErr = err
		}
	}
	if !errors.Is(readErr, unix.EIO) {
		t.Errorf("the reads end with %v", readErr)
	}
	<-d.Failed()
	<-d.Server.Failed()
	f, err := d.Failure(within(t))
	if err != nil || f == nil || f.Write || f.Attempts < 2 || !strings.Contains(f.Error(), "the network is away") {
		t.Errorf("the failure is %v, %v", f, err)
	}
	unmount()
	_ = d.Detach(within(t))
	if _, err := d.Changes(within(t), 1, discard); err == nil || !strings.Contains(err.Error(), "the network is away") {
		t.Errorf("the changes of a failed disk: %v", err)
	}
}

// TestSourceIsGone: if the process with the source ends, reads of fetched blocks still work and others
// fail at once.
func TestSourceIsGone(t *testing.T) {
	d := open(t, sourcetest.Pattern(block.Range{Count: 64}), lazydisk.Options{Size: 64 * block.Size, Key: "test", Cache: cached(t), NoPrefetch: true})
	f := device(t, d)
	p := aligned(t, block.PageSize)
	_, err := f.ReadAt(p, 20*block.Size)
	must(t, err)
	d.Client.Close()
	if _, err := f.ReadAt(p, 20*block.Size+block.PageSize); err != nil {
		t.Errorf("a fetched block: %v", err)
	}
	if _, err := f.ReadAt(p, 40*block.Size); !errors.Is(err, unix.EIO) {
		t.Errorf("another block: %v", err)
	}
	<-d.Server.Failed()
}

// TestFullScratchDisk: a write that cannot be stored is an error, and no change is returned.
func TestFullScratchDisk(t *testing.T) {
	needRoot(t)
	scratch := testdir.New(t)
	run(t, "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", scratch)
	t.Cleanup(func() { run(t, "umount", scratch) })
	d := open(t, nil, lazydisk.Options{Size: 64 * mib, ScratchDir: scratch})
	f := device(t, d)
	p := aligned(t, mib)
	copy(p, "data")
	var err error
	for off := int64(0); off < 8*mib && err == nil; off += mib {
		_, err = f.WriteAt(p, off)
	}
	if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.ENOSPC) {
		t.Errorf("the writes end with %v", err)
	}
	must(t, f.Close())
	must(t, d.Detach(within(t)))
	if _, err := d.Changes(within(t), 1, discard); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("the changes are returned: %v", err)
	}
}

// waiting returns the processes in state D that have a word in their command line.
func waiting(t testing.TB, word string) (found []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(t, err)
	for _, stat := range stats {
		raw, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		_, rest, _ := strings.Cut(string(raw), ") ")
		if strings.HasPrefix(rest, "D") && strings.Contains(string(line), word) {
			found = append(found, string(raw))
		}
	}
	return found
}

// TestKilledServer: the block server is killed, stopped, or its connection is aborted, while processes
// read and write a file system on the disk. They end with errors, and nothing remains.
func TestKilledServer(t *testing.T) {
	needRoot(t)
	path := sourceImage(t, 64*mib)
	for name, end := range map[string]func(d *lazydisk.Disk) error{
		"killed":  func(d *lazydisk.Disk) error { return unix.Kill(d.PID(), unix.SIGKILL) },
		"aborted": func(d *lazydisk.Disk) error { return d.Abort() },
		"stopped and aborted": func(d *lazydisk.Disk) error {
			return errors.Join(unix.Kill(d.PID(), unix.SIGSTOP), d.Abort())
		},
	} {
		t.Run(name, func(t *testing.T) {
			source := sourcetest.File(t, path)
			hold := make(chan struct{})
			source.Fault = func(ctx context.Context, _ int64, _ int, _ []byte) error {
				select {
				case <-hold: // from now on no response comes
					<-ctx.Done()
					return ctx.Err()
				default:
					return nil
				}
			}
			d := open(t, source, lazydisk.Options{Size: 64 * mib, Key: "fs", Cache: cached(t), NoPrefetch: true})
			dir, unmount := mount(t, d.Device(), "errors=remount-ro")
			close(hold)
			ended := make(chan error, 2)
			go func() {
				out, err := command("cat", dir+"/file6", dir+"/file13", dir+"/file20")
				ended <- fmt.Errorf("%w: %s", err, out)
			}()
			go func() {
				out, err := command("dd", "if=/dev/zero", "of="+dir+"/new", "bs=64k", "count=300", "conv=fsync")
				ended <- fmt.Errorf("%w: %s", err, out)
			}()
			eventually(t, "a process waits for the disk", func() bool { return len(waiting(t, dir)) > 0 })
			must(t, end(d))
			for range 2 {
				select {
				case err := <-ended:
					t.Log(err)
				case <-time.After(timeout):
					t.Fatalf("a process hangs: %v", waiting(t, dir))
				}
			}
			<-d.Done()
			unmount()
			if left := waiting(t, dir); len(left) > 0 {
				t.Errorf("processes wait: %v", left)
			}
			if err := d.Detach(within(t)); err != nil {
				t.Log(err)
			}
			if _, err := d.Changes(within(t), 1, discard); err == nil {
				t.Error("changes of a killed server are returned")
			}
		})
	}
}

// TestAbortedConnection: if the connection is aborted from outside while the device is in use, no change
// is returned, although the block server still runs.
func TestAbortedConnection(t *testing.T) {
	d := open(t, nil, lazydisk.Options{Size: 8 * mib})
	must(t, lazydisk.AbortConnection(d))
	<-d.Failed()
	_ = d.Detach(within(t))
	if _, err := d.Changes(within(t), 1, discard); err == nil || !strings.Contains(err.Error(), "aborted") {
		t.Errorf("the changes are returned: %v", err)
	}
}

// TestAbortAfterDetach: the kernel gives the number of an ended connection to the next one. Aborting a disk that was detached
// does nothing to another disk.
func TestAbortAfterDetach(t *testing.T) {
	first := open(t, nil, lazydisk.Options{Size: 8 * mib})
	must(t, first.Detach(within(t)))
	must(t, first.Close())
	var same *lazydisk.Disk
	for range 20 {
		d := open(t, sourcetest.Pattern(block.Range{Count: 16}), lazydisk.Options{Size: 8 * mib})
		if lazydisk.ConnectionNumber(d) == lazydisk.ConnectionNumber(first) {
			same = d
			break
		}
	}
	if same == nil {
		t.Fatal("the kernel gives the number to no other connection")
	}
	must(t, first.Abort())
	if _, err := os.ReadFile(same.Device()); err != nil {
		t.Error(err)
	}
}

// TestAbortOfALargeNumber: a connection can be aborted although the host has so many mounts that its number exceeds 255.
func TestAbortOfALargeNumber(t *testing.T) {
	needRoot(t)
	for range 300 {
		mount := detachedTmpfs(t)
		t.Cleanup(func() { unix.Close(mount) })
	}
	d := open(t, nil, lazydisk.Options{Size: 8 * mib})
	if n := lazydisk.ConnectionNumber(d); n < 256 {
		t.Fatalf("the number is %d", n)
	}
	must(t, lazydisk.AbortConnection(d))
	<-d.Failed()
}

// detachedTmpfs returns the descriptor of a mount without a path.
func detachedTmpfs(t *testing.T) int {
	t.Helper()
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	must(t, err)
	defer unix.Close(fs)
	must(t, unix.FsconfigCreate(fs))
	mount, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	must(t, err)
	return mount
}

// ownerEnv makes the test binary a process that opens a disk, mounts it, and waits to be killed.
const ownerEnv = "LAZYDISK_TEST_OWNER"

// owner opens a disk with the name in the environment, and prints its device.
func owner(name string) error {
	d, err := lazydisk.Open(context.Background(), sourcetest.Pattern(block.Range{Count: 4}), lazydisk.Options{Size: 16 * mib, Name: name})
	if err != nil {
		return err
	}
	fmt.Println(d.Device(), d.PID())
	select {}
}

// TestKilledOwner: if the owner is killed, the block server ends and the device is detached, with its
// partitions; if a file system is mounted, as soon as it is unmounted.
func TestKilledOwner(t *testing.T) {
	needRoot(t)
	for _, mounted := range []bool{false, true} {
		t.Run(fmt.Sprintf("mounted=%v", mounted), func(t *testing.T) {
			name := fmt.Sprintf("%stest-%d", lazydisk.NamePrefix, time.Now().UnixNano())
			cmd, out := startOwner(t, name)
			var device string
			var pid int
			if _, err := fmt.Fscan(out, &device, &pid); err != nil {
				t.Fatal(err)
			}
			if found, err := lazydisk.Device(name); err != nil || found != device {
				t.Errorf("the device is %s, and it is found as %s, %v", device, found, err)
			}
			unmount := func() {}
			if mounted {
				run(t, "mkfs.ext4", "-q", device)
				_, unmount = mount(t, device, "defaults")
			}
			must(t, cmd.Process.Kill())
			_ = cmd.Wait()
			if mounted {
				if found, err := lazydisk.Device(name); err != nil || found == "" {
					t.Errorf("a mounted device is gone: %v", err)
				}
				unmount()
			}
			must(t, lazydisk.Release(within(t), name, ""))
			eventually(t, "the block server ends", func() bool { return unix.Kill(pid, 0) != nil })
			if found, err := lazydisk.Device(name); err != nil || found != "" {
				t.Errorf("%s is left: %v", found, err)
			}
		})
	}
}

// TestProgramsOnTheDisk runs programs from the disk while this process, which has the source, collects
// garbage: neither waits for the other.
func TestProgramsOnTheDisk(t *testing.T) {
	needRoot(t)
	path := filepath.Join(testdir.New(t), "source")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 64*mib))
	run(t, "mkfs.ext4", "-q", path)
	dir, unmount := mount(t, path, "loop")
	for i := range 20 {
		run(t, "cp", "/bin/ls", fmt.Sprintf("%s/program%d", dir, i))
	}
	unmount()
	source := sourcetest.File(t, path)
	source.Latency = 2 * time.Millisecond
	d := open(t, source, lazydisk.Options{Size: 64 * mib, NoPrefetch: true})
	dir, unmount = mount(t, d.Device(), "ro")
	defer unmount()
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			if out, err := command("/bin/sh", "-c", fmt.Sprintf("%s/program%d %s", dir, i, dir)); err != nil || !strings.Contains(out, "program7") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	group.Wait()
	close(stop)
	collector.Wait()
}

// TestSixteenDisks: sixteen disks of one source, with one cache, fetch every block once.
func TestSixteenDisks(t *testing.T) {
	const blocks = 24
	source := sourcetest.Pattern(block.Range{Count: blocks})
	source.Latency = 5 * time.Millisecond
	o := lazydisk.Options{Size: blocks * block.Size, Key: "sixteen", Cache: cached(t)}
	var disks []*lazydisk.Disk
	for range 16 {
		disks = append(disks, open(t, source, o))
	}
	var group sync.WaitGroup
	for _, d := range disks {
		group.Go(func() {
			p, err := os.ReadFile(d.Device())
			want := make([]byte, block.Size)
			for index := range int64(blocks) {
				if sourcetest.Content(index, want); err != nil || !bytes.Equal(p[index*block.Size:][:block.Size], want) {
					t.Errorf("block %d: %v, or the wrong content", index, err)
					return
				}
			}
		})
	}
	group.Wait()
	if all, most := source.Requests(); all != blocks || most != 1 {
		t.Errorf("%d requests for %d blocks, %d for a block", all, blocks, most)
	}
}

// TestWithoutACache: a disk whose cache cannot be opened works, and reports the reason.
func TestWithoutACache(t *testing.T) {
	file := filepath.Join(testdir.New(t), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	d := open(t, sourcetest.Pattern(block.Range{Count: 4}), lazydisk.Options{
		Size: 4 * block.Size, Key: "test", Cache: cache.Options{Dir: file, Limit: gib},
	})
	p, err := os.ReadFile(d.Device())
	want := make([]byte, block.Size)
	sourcetest.Content(3, want)
	if err != nil || !bytes.Equal(p[3*block.Size:], want) {
		t.Errorf("the content is wrong: %v", err)
	}
	if stats, err := d.Stats(within(t)); err != nil || !strings.Contains(stats.CacheError, file) || stats.Uncached != 4 {
		t.Errorf("the figures are %+v, %v", stats, err)
	}
}

// TestUnusableCacheFiles: damaged blocks are counted, and the reason why a block is not kept is reported. The content
// is right.
func TestUnusableCacheFiles(t *testing.T) {
	o := lazydisk.Options{Size: 4 * block.Size, Key: "test", Cache: cached(t)}
	read := func() lazydisk.Stats {
		t.Helper()
		d := open(t, sourcetest.Pattern(block.Range{Count: 4}), o)
		p, err := os.ReadFile(d.Device())
		want := make([]byte, block.Size)
		for index := range int64(4) {
			sourcetest.Content(index, want)
			if err != nil || !bytes.Equal(p[index*block.Size:][:block.Size], want) {
				t.Errorf("block %d is wrong: %v", index, err)
			}
		}
		stats, err := d.Stats(within(t))
		must(t, err)
		return stats
	}
	read()
	files, err := filepath.Glob(filepath.Join(o.Cache.Dir, "s-*", "[0-3]"))
	if err != nil || len(files) != 4 {
		t.Fatalf("the cache holds %v, %v", files, err)
	}
	must(t, os.WriteFile(files[0], []byte("damaged"), 0o600))
	if stats := read(); stats.Damaged != 1 || stats.Fetched != 1 || stats.CacheError != "" {
		t.Errorf("after damage, the figures are %+v", stats)
	}
	must(t, os.Remove(files[1]))
	must(t, os.Symlink("/etc/passwd", files[1]))
	if stats := read(); stats.Damaged != 0 || stats.Fetched != 1 || !strings.Contains(stats.CacheError, files[1]) {
		t.Errorf("with a link, the figures are %+v", stats)
	}
}

// TestDisabledCache: a cache with the size 0 is not read either.
func TestDisabledCache(t *testing.T) {
	o := lazydisk.Options{Size: 4 * block.Size, Key: "test", Cache: cached(t)}
	for _, limit := range []int64{o.Cache.Limit, 1, 0} {
		o.Cache.Limit = limit
		d := open(t, sourcetest.Pattern(block.Range{Count: 4}), o)
		_, err := os.ReadFile(d.Device())
		must(t, err)
		if stats, err := d.Stats(within(t)); err != nil || stats.Fetched != 4 || stats.FromCache != 0 {
			t.Errorf("with the limit %d, the figures are %+v, %v", limit, stats, err)
		}
	}
}

// TestRefusedDisks: a disk that cannot be started is an error with the reason, and nothing remains.
func TestRefusedDisks(t *testing.T) {
	needRoot(t)
	small := sourcetest.Pattern(block.Range{Count: 5})
	for name, test := range map[string]struct {
		o      lazydisk.Options
		source block.Source
		says   string
	}{
		"no size":       {lazydisk.Options{}, nil, "the size of a lazy disk is 0 bytes"},
		"part of block": {lazydisk.Options{Size: block.Size + 4096}, nil, "must be a multiple"},
		"name":          {lazydisk.Options{Size: mib, Name: "../x"}, nil, "is not the name"},
		"too small":     {lazydisk.Options{Size: 4 * block.Size}, small, "the disk only has 4"},
		"scratch":       {lazydisk.Options{Size: mib, ScratchDir: "/nonexistent"}, nil, "/nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := lazydisk.Open(within(t), test.source, test.o)
			if err == nil {
				d.Close()
				t.Fatal("it is started")
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error is %v, want %q", err, test.says)
			}
		})
	}
}

// TestCancelledStart: a start that waits for the source ends with its context.
func TestCancelledStart(t *testing.T) {
	needRoot(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	source := &hangingList{Source: sourcetest.Pattern(), asked: func() { cancel(errors.New("interrupted")) }}
	_, err := lazydisk.Open(ctx, source, lazydisk.Options{Size: mib})
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("the error is %v", err)
	}
}

// TestCancelledAtAnyTime: a start that is cancelled at any time leaves no device.
func TestCancelledAtAnyTime(t *testing.T) {
	needRoot(t)
	for n := range 20 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n)*2*time.Millisecond)
		name := fmt.Sprintf("%scancelled-%d-%d", lazydisk.NamePrefix, os.Getpid(), n)
		d, err := lazydisk.Open(ctx, nil, lazydisk.Options{Size: mib, Name: name})
		if err == nil {
			err = errors.Join(d.Detach(within(t)), d.Close())
		} else if ctx.Err() != nil {
			err = nil
		}
		cancel()
		must(t, err)
		eventually(t, "nothing is left", func() bool {
			device, err := lazydisk.Device(name)
			return err == nil && device == ""
		})
	}
}

// hangingList is a source that does not list its blocks.
type hangingList struct {
	*sourcetest.Source
	asked func()
}

// List implements block.Source.
func (s *hangingList) List(ctx context.Context, _ int64) ([]block.Range, int64, error) {
	s.asked()
	<-ctx.Done()
	return nil, 0, ctx.Err()
}

// TestPartitions: partitions that were added to the device are removed with it.
func TestPartitions(t *testing.T) {
	d := open(t, nil, lazydisk.Options{Size: 64 * mib})
	path := d.Device()
	must(t, addPartition(path, 1, mib, 8*mib))
	node := path + "p1"
	eventually(t, "the partition has a node", func() bool { return exists(node) })
	must(t, os.WriteFile(node, []byte("in the partition"), 0o600))
	found, _ := changes(t, d)
	if !bytes.HasPrefix(found[2].Data, []byte("in the partition")) || len(found) != 1 {
		t.Errorf("%d blocks have changed", len(found))
	}
	if exists(filepath.Join("/sys/block", filepath.Base(path), filepath.Base(node))) {
		t.Errorf("the partition %s is left", node)
	}
}

// TestMemory: the memory of the block server does not depend on the size of the disk. It reads and
// writes a disk of 64 GiB all over, without a cache, which takes the most memory.
func TestMemory(t *testing.T) {
	const size, limit = 64 * gib, 128
	if raceDetector {
		t.Skip("the race detector needs more memory than the block server")
	}
	source := sourcetest.Pattern(block.Range{Count: size / block.Size})
	for _, o := range []lazydisk.Options{{Size: size}, {Size: size, Key: "memory", Cache: cached(t)}} {
		d := open(t, source, o)
		before, _ := memory(t, d.PID())
		useEverywhere(t, d, size)
		now, peak := memory(t, d.PID())
		t.Logf("cache %v: %d MiB at the start, %d MiB now, %d MiB at most", o.Key != "", before, now, peak)
		if peak > limit {
			t.Errorf("the block server has used %d MiB, more than %d", peak, limit)
		}
	}
}

// useEverywhere reads and writes in sixteen goroutines, at places that are spread over a disk, and
// then discards most of it.
func useEverywhere(t testing.TB, d *lazydisk.Disk, size int64) {
	t.Helper()
	f := device(t, d)
	var group sync.WaitGroup
	for worker := range int64(16) {
		p := aligned(t, mib)
		group.Go(func() {
			for i := range int64(12) {
				off := (worker*12 + i) * (size / 192) &^ (block.PageSize - 1)
				if _, err := f.ReadAt(p, off); err != nil {
					t.Error(err)
				}
				if _, err := f.WriteAt(p, off+2*mib); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	must(t, punch(f, gib, size-2*gib))
	must(t, f.Close())
}
