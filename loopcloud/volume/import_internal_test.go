//go:build linux

package volume

import "testing"

func TestRoomFor(t *testing.T) {
	tests := []struct {
		name           string
		content        content
		sizeGiB, nodes int64
	}{
		{"nothing", content{}, 1, 0},
		{"busybox", content{bytes: 5 << 20, files: 400}, 1, 0},
		{"a distribution", content{bytes: 900 << 20, files: 30_000}, 2, 0},
		{"many small files", content{bytes: 280 << 20, files: 70_000}, 1, 88_524},
		{"a million links and devices", content{files: 1_000_000}, 1, 1_251_024},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			size := tt.content.diskSize()
			if size != tt.sizeGiB<<30 {
				t.Errorf("the disk has %d bytes; want %d GiB", size, tt.sizeGiB)
			}
			if n := tt.content.inodes(size - partitionStart); n != tt.nodes {
				t.Errorf("mkfs is told to make %d inodes; want %d", n, tt.nodes)
			}
		})
	}
}
