package disk_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
)

// dump returns the table as sfdisk prints it.
func dump(t *testing.T, device string) string {
	t.Helper()
	return run(t, "", "sfdisk", "--dump", device)
}

func TestGrowPartition(t *testing.T) {
	const from, to = 64, 300
	tests := []struct {
		name, script string
		part         int
		grown        bool
		want         string // partitions as the kernel has them
		fails        string
	}{
		{"MBR", "label: dos\nstart=1MiB, size=20MiB, bootable\nstart=21MiB, size=20MiB\n", 2, true, "1:2048+40960 2:43008+571392", ""},
		{"GPT", "label: gpt\nstart=1MiB, size=20MiB, name=esp\nstart=21MiB, size=20MiB, name=root\n", 2, true, "1:2048+40960 2:43008+571352", ""},
		{"GPT, numbered first and last on the disk", "label: gpt\n1: start=21MiB, size=20MiB\n15: start=1MiB, size=20MiB\n", 1, true, "15:2048+40960 1:43008+571352", ""},
		{"GPT, not aligned", "label: gpt\nstart=2049, size=20MiB\n", 1, true, "1:2049+612312", ""},
		{"the whole disk", "", 0, false, "", ""},
		{"not the last", "label: gpt\nstart=1MiB, size=20MiB\nstart=21MiB, size=20MiB\n", 1, false, "1:2048+40960 2:43008+40960", "not the last one: partition 2 lies behind it"},
		{"before an extended one", "label: dos\nstart=1MiB, size=20MiB\nstart=21MiB, size=20MiB, type=5\nstart=22MiB, size=4MiB\n", 1, false, "1:2048+40960 2:43008+2 5:45056+8192", "not the last one"},
		{"logical", "label: dos\nstart=1MiB, size=40MiB, type=5\nstart=2MiB, size=20MiB\n", 5, true, "1:2048+2 5:4096+610304", ""},
		{"logical, not the first", "label: dos\nstart=1MiB, size=1MiB\nstart=3MiB, size=60MiB, type=f\nstart=4MiB, size=20MiB\nstart=26MiB, size=20MiB\n", 6, true, "1:2048+2048 2:6144+2 5:8192+40960 6:53248+561152", ""},
		{"logical, not the last", "label: dos\nstart=1MiB, size=60MiB, type=5\nstart=2MiB, size=20MiB\nstart=26MiB, size=20MiB\n", 5, false, "1:2048+2 5:4096+40960 6:53248+40960", "partition 6 lies behind it"},
		{"logical, before a primary one", "label: dos\nstart=1MiB, size=30MiB, type=5\nstart=32MiB, size=1MiB\nstart=2MiB, size=20MiB\n", 5, false, "1:2048+2 2:65536+2048 5:4096+40960", "partition 2 lies behind it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := partitioned(t, from, or(tt.script, "label: gpt\n"))
			if tt.script == "" {
				run(t, "", "wipefs", "--quiet", "--all", file.Name())
			}
			if err := file.Truncate(to * mib); err != nil {
				t.Fatal(err)
			}
			device := loopDevice(t, file.Name())
			if err := disk.SyncPartitions(device); err != nil {
				t.Fatal(err)
			}
			before := read(t, file)
			node := device
			if tt.part > 0 {
				node = disk.PartitionPath(device, tt.part)
			}
			for _, grown := range []bool{tt.grown, false} { // the second call does nothing
				got, err := disk.GrowPartition(device, node)
				if got != grown || (err != nil) != (tt.fails != "") || (err != nil && !strings.Contains(err.Error(), tt.fails)) {
					t.Errorf("grown %v, %v; want %v, %q", got, err, grown, tt.fails)
				}
			}
			if got := strings.Join(partitions(t, device), " "); got != tt.want {
				t.Errorf("the kernel has %q; want %q", got, tt.want)
			}
			if !tt.grown {
				return
			}
			checkTable(t, device, tt.part, before)
		})
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// checkTable has sfdisk verify a table, and compares it with the one before, except for
// the length of one partition.
func checkTable(t *testing.T, device string, part int, before disk.Table) {
	t.Helper()
	if out := run(t, "", "sfdisk", "--verify", device); !strings.Contains(out, "No errors detected") {
		t.Errorf("sfdisk --verify: %s", out)
	}
	after, err := disk.ReadDevice(device)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range after.Partitions {
		if p.Number == part || part > 4 && p.Extended() { // which contains it
			after.Partitions[i].Length = before.Partitions[i].Length
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the table is another one: %s", diff)
	}
	if after.Kind != disk.GPT {
		return
	}
	// The backup table alone gives the same result.
	whole := dump(t, device)
	f, err := os.OpenFile(device, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 512), 512); err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(whole, "label:")
	if got := dump(t, device); !strings.HasSuffix(got, table) {
		t.Errorf("the backup says\n%s\nand the primary\n%s", got, whole)
	}
}

// FuzzGrowInTable grows a partition in any content of a disk: no other partition changes,
// and a valid table stays valid.
func FuzzGrowInTable(f *testing.F) {
	for _, script := range []string{"label: dos\nstart=64, size=64\n", "label: gpt\nfirst-lba: 34\nstart=64, size=64\n",
		"label: dos\nstart=1, size=30, type=5\nstart=2, size=4\nstart=8, size=4\n",
	} {
		file := partitioned(f, 1, script)
		raw, err := os.ReadFile(file.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[:34*512], 1)
		f.Add(raw[:34*512], 6)
	}
	f.Fuzz(func(t *testing.T, raw []byte, number int) {
		const size = mib + 64<<10
		content := make(memory, size)
		copy(content, raw)
		before, err := disk.ReadTable(content, size, 512)
		if err != nil {
			return
		}
		grown, growErr := disk.GrowInTable(content, size, 512, number)
		after, err := disk.ReadTable(content, size, 512)
		if err != nil {
			t.Fatalf("the table is broken: %v (grown %v, %v)", err, grown, growErr)
		}
		for i, p := range after.Partitions {
			if (p.Number == number || number > 4 && p.Extended()) && grown && p.Length > before.Partitions[i].Length {
				after.Partitions[i].Length = before.Partitions[i].Length
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
	})
}

// memory is a disk.
type memory []byte

func (m memory) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(m).ReadAt(p, at) }

func (m memory) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, errors.New("behind the end")
	}
	return copy(m[at:], p), nil
}
