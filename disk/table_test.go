package disk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

const mib = 1 << 20

// partitioned makes a sparse disk of this many MiB and has sfdisk write a table.
func partitioned(t testing.TB, sizeMiB int64, script string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(testdir.New(t), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(sizeMiB * mib); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "--quiet", f.Name())
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk (of Debian's package fdisk): %v\n%s", err, out)
	}
	return f
}

func read(t testing.TB, f *os.File) disk.Table {
	t.Helper()
	table, err := readTable(f)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func readTable(f *os.File) (disk.Table, error) {
	info, err := f.Stat()
	if err != nil {
		return disk.Table{}, err
	}
	return disk.ReadTable(f, info.Size(), 512)
}

const (
	gptScript = `label: gpt
label-id: 11111111-2222-3333-4444-555555555555
1 : start=1MiB, size=10MiB, type=21686148-6449-6E6F-744E-656564454649, uuid=AAAAAAAA-0000-0000-0000-000000000001, attrs=LegacyBIOSBootable
15 : start=16MiB, size=32MiB, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=AAAAAAAA-0000-0000-0000-00000000000F, name="rööt"
`
	mbrScript = `label: dos
label-id: 0xdeadbeef
start=1MiB, size=8MiB, type=83, bootable
start=16MiB, size=40MiB, type=5
start=17MiB, size=4MiB, type=82
start=22MiB, size=5MiB, type=83
start=28MiB, size=6MiB, type=8e
`
)

func TestReadTable(t *testing.T) {
	tests := []struct {
		name   string
		script string
		want   disk.Table
	}{
		{"GPT with holes in its numbers", gptScript, disk.Table{Kind: disk.GPT, Partitions: []disk.Partition{
			{
				Number: 1, Start: 1 * mib, Length: 10 * mib, Type: "21686148-6449-6e6f-744e-656564454649",
				GUID: "aaaaaaaa-0000-0000-0000-000000000001", Bootable: true,
			},
			{
				Number: 15, Start: 16 * mib, Length: 32 * mib, Type: "0fc63daf-8483-4772-8e79-3d69d8477de4",
				GUID: "aaaaaaaa-0000-0000-0000-00000000000f", Name: "rööt",
			},
		}}},
		{"MBR with logical partitions", mbrScript, disk.Table{Kind: disk.MBR, Partitions: []disk.Partition{
			{Number: 1, Start: 1 * mib, Length: 8 * mib, Type: "83", GUID: "deadbeef-01", Bootable: true},
			{Number: 2, Start: 16 * mib, Length: 40 * mib, Type: "05", GUID: "deadbeef-02"},
			{Number: 5, Start: 17 * mib, Length: 4 * mib, Type: "82", GUID: "deadbeef-05"},
			{Number: 6, Start: 22 * mib, Length: 5 * mib, Type: "83", GUID: "deadbeef-06"},
			{Number: 7, Start: 28 * mib, Length: 6 * mib, Type: "8e", GUID: "deadbeef-07"},
		}}},
		{"empty MBR", "label: dos\n", disk.Table{Kind: disk.MBR}},
		{"empty GPT", "label: gpt\n", disk.Table{Kind: disk.GPT}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := read(t, partitioned(t, 64, tt.script))
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReadMissingTable(t *testing.T) {
	fat := bootSector()
	copy(fat[0x36:], "FAT16   ")
	ext4 := append(bootSector(), make([]byte, 4096)...)
	copy(ext4[0x438:], "\x53\xef")
	code := bootSector()
	code[446] = 0xeb // neither active nor inactive: a boot loader's code
	tests := map[string][]byte{
		"nothing":                          nil,
		"less than a sector":               make([]byte, 511),
		"zeros":                            make([]byte, 4096),
		"a FAT file system":                fat,
		"ext4 behind a boot loader":        ext4,
		"code in the place of the entries": code,
	}
	for name, raw := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := disk.ReadTable(bytes.NewReader(raw), int64(len(raw)), 512)
			if err != nil || got.Kind != disk.None || len(got.Partitions) != 0 {
				t.Errorf("got %+v, %v; want no table", got, err)
			}
		})
	}
}

func TestReadTableOfFileSystemOnWholeDisk(t *testing.T) {
	f := partitioned(t, 64, gptScript)
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	// The backup header is still there, and must not count.
	if got := read(t, f); got.Kind != disk.None {
		t.Errorf("got %+v; want no table", got)
	}
}

func TestReadTornGPT(t *testing.T) {
	zeros := make([]byte, 512)
	const backup = 64*mib - 512
	tests := []struct {
		name string
		tear func(f io.WriterAt) error
		ok   bool
	}{
		{"primary header gone", func(f io.WriterAt) error { return write(f, zeros, 512) }, true},
		{"primary header changed", func(f io.WriterAt) error { return write(f, []byte{0xff}, 512+40) }, true},
		{"primary entries changed", func(f io.WriterAt) error { return write(f, []byte("evil"), 1024) }, true},
		{"backup header gone", func(f io.WriterAt) error { return write(f, zeros, backup) }, true},
		{"both headers gone", func(f io.WriterAt) error {
			return errors.Join(write(f, zeros, 512), write(f, zeros, backup))
		}, false},
	}
	want := read(t, partitioned(t, 64, gptScript))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := partitioned(t, 64, gptScript)
			if err := tt.tear(f); err != nil {
				t.Fatal(err)
			}
			got, err := readTable(f)
			if !tt.ok {
				if err == nil {
					t.Fatalf("got %+v; want an error", got)
				}
				return
			}
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("error %v, table (-want +got):\n%s", err, diff)
			}
		})
	}
}

func write(f io.WriterAt, b []byte, at int64) error {
	_, err := f.WriteAt(b, at)
	return err
}

// bootSector is a boot sector with an empty table.
func bootSector() []byte {
	b := make([]byte, 512)
	b[510], b[511] = 0x55, 0xaa
	return b
}

// setEntry writes one of the four entries of a boot sector.
func setEntry(b []byte, i int, kind byte, start, count uint32) {
	raw := b[446+16*i:]
	raw[4] = kind
	binary.LittleEndian.PutUint32(raw[8:], start)
	binary.LittleEndian.PutUint32(raw[12:], count)
}

func TestReadHostileMBR(t *testing.T) {
	const sectors = 4096
	tests := []struct {
		name  string
		build func(d []byte)
		want  []string // number:start+length in sectors
	}{
		{"behind the end, and over it", func(d []byte) {
			setEntry(d, 0, 0x83, sectors, 10)
			setEntry(d, 1, 0x83, 1<<32-1, 1<<32-1)
			setEntry(d, 2, 0x83, sectors-10, 1<<32-1)
			setEntry(d, 3, 0x83, 1, 0)
		}, []string{"3:4086+10"}},
		{"overlapping", func(d []byte) {
			setEntry(d, 0, 0x83, 1, 100)
			setEntry(d, 1, 0x83, 50, 100)
		}, []string{"1:1+100", "2:50+100"}},
		{"a chain that bites its tail", func(d []byte) {
			setEntry(d, 0, 0x05, 10, 1000)
			copy(d[10*512:], bootSector())
			setEntry(d[10*512:], 0, 0x83, 1, 5)
			setEntry(d[10*512:], 1, 0x05, 20, 10)
			copy(d[30*512:], bootSector())
			setEntry(d[30*512:], 0, 0x83, 1, 5)
			setEntry(d[30*512:], 1, 0x05, 0, 10) // back to the first
		}, []string{"1:10+1000", "5:11+5", "6:31+5"}},
		{"a chain into nothing", func(d []byte) {
			setEntry(d, 0, 0x0f, 10, 1000)
			copy(d[10*512:], bootSector())
			setEntry(d[10*512:], 0, 0x83, 1, 5)
			setEntry(d[10*512:], 1, 0x05, 1<<31, 10)
		}, []string{"1:10+1000", "5:11+5"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := make([]byte, sectors*512)
			copy(d, bootSector())
			tt.build(d)
			got, err := disk.ReadTable(bytes.NewReader(d), int64(len(d)), 512)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, layout(got)); diff != "" {
				t.Errorf("partitions (-want +got):\n%s", diff)
			}
		})
	}
}

func layout(t disk.Table) []string {
	var out []string
	for _, p := range t.Partitions {
		out = append(out, fmt.Sprintf("%d:%d+%d", p.Number, p.Start/512, p.Length/512))
	}
	return out
}

// TestReadEndlessChain has more extended boot records than there are partition numbers, none
// of which contains a partition.
func TestReadEndlessChain(t *testing.T) {
	const sectors = 1 << 14
	d := make([]byte, sectors*512)
	for at := range uint32(sectors - 1) {
		b := d[at*512:]
		copy(b, bootSector())
		if at == 0 {
			setEntry(b, 0, 0x05, 1, sectors-1)
		} else {
			setEntry(b, 0, 0x05, at, 1)
		}
	}
	r := &countingReader{ReaderAt: bytes.NewReader(d)}
	got, err := disk.ReadTable(r, int64(len(d)), 512)
	if err != nil || len(got.Partitions) != 1 {
		t.Errorf("got %+v, %v; want the extended partition only", got, err)
	}
	if r.reads > 300 {
		t.Errorf("it took %d reads", r.reads)
	}
}

type countingReader struct {
	io.ReaderAt
	reads int
}

func (c *countingReader) ReadAt(b []byte, at int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(b, at)
}

// TestReadHostileGPT gives headers with valid checksums and wrong content.
func TestReadHostileGPT(t *testing.T) {
	le := binary.LittleEndian
	tests := map[string]func(h []byte){
		"huge number of entries":  func(h []byte) { le.PutUint32(h[80:], 1<<32-1) },
		"huge entries":            func(h []byte) { le.PutUint32(h[84:], 1<<32-8) },
		"tiny entries":            func(h []byte) { le.PutUint32(h[84:], 8) },
		"entries behind the end":  func(h []byte) { le.PutUint64(h[72:], 1<<63) },
		"entries at the very end": func(h []byte) { le.PutUint64(h[72:], 64*mib/512-1) },
		"huge header":             func(h []byte) { le.PutUint32(h[12:], 1<<31) },
		"header of elsewhere":     func(h []byte) { le.PutUint64(h[24:], 7) },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			f := partitioned(t, 64, gptScript)
			for _, at := range []int64{512, 64*mib - 512} {
				h := make([]byte, 512)
				if _, err := f.ReadAt(h, at); err != nil {
					t.Fatal(err)
				}
				change(h)
				le.PutUint32(h[16:], 0)
				le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
				if err := write(f, h, at); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := readTable(f); err == nil {
				t.Errorf("got %+v; want an error", got)
			}
		})
	}
}

func TestReadGPTOfLargeSectors(t *testing.T) {
	f := partitioned(t, 64, "label: dos\nstart=2048, size=1024, type=83\n")
	got, err := disk.ReadTable(f, 64*mib, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if p := got.Partitions; len(p) != 1 || p[0].Start != 2048*4096 || p[0].Length != 1024*4096 {
		t.Errorf("got %+v; want sectors of 4096 bytes", p)
	}
	if _, err := disk.ReadTable(f, 64*mib, 1000); err == nil {
		t.Error("sectors of 1000 bytes were accepted")
	}
}

func TestPartitionPath(t *testing.T) {
	for device, want := range map[string]string{
		"/dev/xvdf":    "/dev/xvdf3",
		"/dev/xvdaa":   "/dev/xvdaa3",
		"/dev/nvme1n1": "/dev/nvme1n1p3",
		"/dev/loop0":   "/dev/loop0p3",
		"/dev/xvdf1":   "/dev/xvdf1p3",
	} {
		if got := disk.PartitionPath(device, 3); got != want {
			t.Errorf("PartitionPath(%s, 3) = %s, want %s", device, got, want)
		}
	}
}

func FuzzReadTable(f *testing.F) {
	for _, script := range []string{gptScript, mbrScript, "label: dos\n"} {
		file := partitioned(f, 64, script)
		head := make([]byte, 34*512)
		if _, err := file.ReadAt(head, 0); err != nil {
			f.Fatal(err)
		}
		tail := make([]byte, 33*512)
		if _, err := file.ReadAt(tail, 64*mib-int64(len(tail))); err != nil {
			f.Fatal(err)
		}
		f.Add(append(head, tail...))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		size := int64(len(raw))
		table, err := disk.ReadTable(bytes.NewReader(raw), size, 512)
		if err != nil && len(table.Partitions) > 0 {
			t.Errorf("error %v and partitions", err)
		}
		last := 0
		for _, p := range table.Partitions {
			if p.Number <= last || p.Number > 255 {
				t.Errorf("number %d after %d", p.Number, last)
			}
			last = p.Number
			if p.Start < 0 || p.Length <= 0 || p.Start+p.Length > size {
				t.Errorf("partition %+v is not within %d bytes", p, size)
			}
		}
	})
}
