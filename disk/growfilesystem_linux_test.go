package disk_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/disk"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
	"github.com/packer-chroot/packer-plugin-chroot/testroot"
)

func TestGrowFileSystem(t *testing.T) {
	tests := []struct {
		mkfs, check []string
		fails       error
	}{
		{[]string{"mkfs.ext4", "-q"}, []string{"e2fsck", "-fn"}, nil},
		{[]string{"mkfs.ext4", "-q", "-b", "1024", "-O", "^64bit"}, []string{"e2fsck", "-fn"}, nil},
		{[]string{"mkfs.xfs", "-q"}, []string{"xfs_repair", "-n"}, nil},
		{[]string{"mkfs.btrfs", "-q"}, []string{"btrfs", "check"}, nil},
		{[]string{"mkfs.vfat"}, nil, errors.ErrUnsupported},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.mkfs, " "), func(t *testing.T) {
			testroot.Need(t, "real block devices")
			file := partitioned(t, 700, "label: gpt\nstart=1MiB, size=320MiB\n")
			device := loopDevice(t, file.Name())
			if err := disk.SyncPartitions(device); err != nil {
				t.Fatal(err)
			}
			node := device + "p1"
			run(t, "", tt.mkfs[0], append(tt.mkfs[1:], node)...)
			if grown, err := disk.GrowPartition(device, node); !grown || err != nil {
				t.Fatalf("grown %v, %v", grown, err)
			}
			dir := testdir.New(t)
			if tt.fails != nil {
				if err := disk.GrowMounted(dir, node); !errors.Is(err, tt.fails) || !strings.Contains(err.Error(), `it is "vfat", and only ext4, xfs and btrfs can be grown`) {
					t.Errorf("error %v", err)
				}
				return
			}
			for range 2 { // the second call does nothing
				if err := disk.GrowUnmounted(t.Context(), node); err != nil {
					t.Error(err)
				}
				run(t, "", "mount", node, dir)
				if err := disk.GrowMounted(dir, node); err != nil {
					t.Error(err)
				}
				size := blocks(t, dir)
				run(t, "", "umount", dir)
				if size < 620*mib { // of 699, less its own data
					t.Errorf("it has grown to %d bytes", size)
				}
			}
			free(t, node)
			run(t, "", tt.check[0], append(tt.check[1:], node)...)
		})
	}
}

func TestGrowWithoutTools(t *testing.T) {
	testroot.Need(t, "real block devices")
	file := partitioned(t, 16, "label: gpt\n").Name()
	run(t, "", "mkfs.ext4", "-q", "-F", file)
	t.Setenv("PATH", "/nonexistent")
	if err := disk.GrowUnmounted(t.Context(), file); err != nil { // they are in /usr/sbin
		t.Error(err)
	}
	if err := os.Truncate(file, 4*mib); err != nil {
		t.Fatal(err)
	}
	if err := disk.GrowUnmounted(t.Context(), file); err == nil || !strings.Contains(err.Error(), "e2fsck") {
		t.Errorf("error %v; want that of e2fsck", err)
	}
}
