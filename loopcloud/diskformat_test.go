//go:build linux

package loopcloud_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

func emptyFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(testdir.New(t), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// stream returns the output of WriteDisk for a disk with data at these offsets.
func stream(t testing.TB, size int64, at ...int64) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(testdir.New(t), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, place := range at {
		if _, err := f.WriteAt([]byte("data"), place); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := loopcloud.WriteDisk(&out, f); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestDiskStream(t *testing.T) {
	for name, test := range map[string]struct {
		size int64
		at   []int64
	}{
		"empty":           {0, nil},
		"a hole":          {1 << 30, nil},
		"data at the end": {1<<20 + 4, []int64{0, 1 << 20}},
		"between holes":   {1 << 40, []int64{1 << 30}},
	} {
		t.Run(name, func(t *testing.T) {
			text := stream(t, test.size, test.at...)
			if len(text) > 64<<10 {
				t.Errorf("the stream has %d bytes", len(text))
			}
			f := emptyFile(t)
			if err := loopcloud.ReadDisk(bytes.NewReader(text), f); err != nil {
				t.Fatal(err)
			}
			if info, err := f.Stat(); err != nil || info.Size() != test.size {
				t.Errorf("it has %d bytes (%v)", info.Size(), err)
			}
			for _, place := range test.at {
				got := make([]byte, 4)
				if _, err := f.ReadAt(got, place); err != nil || string(got) != "data" {
					t.Errorf("at %d there is %q (%v)", place, got, err)
				}
			}
		})
	}
}

func TestDiskStreamsThatAreRefused(t *testing.T) {
	whole := stream(t, 1<<20, 4096)
	for cut := range len(whole) / 512 {
		if err := loopcloud.ReadDisk(bytes.NewReader(whole[:cut*512]), emptyFile(t)); err == nil {
			t.Errorf("cut at %d it was taken", cut*512)
		}
	}
	for name, heads := range map[string][]int64{
		"negative length": {0, -1},
		"negative offset": {-1, 1},
		"backwards":       {4, 1, 0, 1},
		"far away":        {1 << 62, 1},
		"too long":        {1, 1 << 62},
		"shrinking":       {4, 1, 2, 0},
	} {
		var text bytes.Buffer
		for i := 0; i < len(heads); i += 2 {
			_ = binary.Write(&text, binary.BigEndian, heads[i:i+2])
			if i+2 < len(heads) {
				text.WriteByte('x')
			}
		}
		if err := loopcloud.ReadDisk(io.MultiReader(&text, bytes.NewReader(make([]byte, 64))), emptyFile(t)); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

func FuzzReadDisk(f *testing.F) {
	f.Add(stream(f, 1<<20, 4096))
	f.Add(stream(f, 0))
	f.Fuzz(func(t *testing.T, text []byte) {
		file := emptyFile(t)
		if loopcloud.ReadDisk(bytes.NewReader(text), file) != nil {
			return
		}
		var again bytes.Buffer
		if err := loopcloud.WriteDisk(&again, file); err != nil {
			t.Fatal(err)
		}
		if err := loopcloud.ReadDisk(&again, emptyFile(t)); err != nil {
			t.Errorf("what was read cannot be written and read again: %v", err)
		}
	})
}
