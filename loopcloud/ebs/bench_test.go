//go:build linux

package ebs_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// BenchmarkUpload writes blocks of random data with 16 clients.
func BenchmarkUpload(b *testing.B) {
	w := newTestCloud(b, state.Timing{})
	id, data, c := w.start(), random(1), w.mine()
	var next atomic.Int32
	b.SetBytes(int64(size))
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.PutSnapshotBlock(context.Background(), putInput(id, next.Add(1)%2048, data)); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkDownload reads blocks of random data with 16 clients.
func BenchmarkDownload(b *testing.B) {
	w := newTestCloud(b, state.Timing{})
	blocks := map[int32][]byte{}
	for i := range int32(64) {
		blocks[i] = random(uint64(i))
	}
	id, c := w.written(blocks), w.mine()
	_, tokens := w.blocks(id)
	var next atomic.Int32
	b.SetBytes(int64(size))
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			index := next.Add(1) % 64
			out, err := c.GetSnapshotBlock(context.Background(), getInput(id, index, tokens[index]))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, out.BlockData)
			_ = out.BlockData.Close()
		}
	})
}
