//go:build linux

package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ebs"

	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// direct returns a client of the EBS direct APIs.
func (s *served) direct() *ebs.Client {
	return ebs.New(ebs.Options{
		Region: "eu-west-2", BaseEndpoint: aws.String(s.endpoint),
		Credentials: credentials.NewStaticCredentialsProvider(printedKey.ID, printedKey.Secret, ""),
	})
}

// put writes a block of one byte and returns its checksum.
func put(t *testing.T, c *ebs.Client, id *string, index int32, b byte) []byte {
	t.Helper()
	data := bytes.Repeat([]byte{b}, 512<<10)
	sum := sha256.Sum256(data)
	_, err := c.PutSnapshotBlock(t.Context(), &ebs.PutSnapshotBlockInput{
		SnapshotId: id, BlockIndex: aws.Int32(index), BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
		Checksum: aws.String(base64.StdEncoding.EncodeToString(sum[:])), ChecksumAlgorithm: "SHA256",
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum[:]
}

// TestKilledWhileWriting: a snapshot that is written block by block survives SIGKILL, and so do
// the tokens of its blocks.
func TestKilledWhileWriting(t *testing.T) {
	dir := testdir.New(t)
	running := serve(t, dir)
	started, err := running.direct().StartSnapshot(t.Context(), &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1)})
	if err != nil {
		t.Fatal(err)
	}
	id := started.SnapshotId
	first := put(t, running.direct(), id, 0, 1)
	running.stop(syscall.SIGKILL)

	running = serve(t, dir)
	all := sha256.Sum256(append(first, put(t, running.direct(), id, 9, 2)...))
	_, err = running.direct().CompleteSnapshot(t.Context(), &ebs.CompleteSnapshotInput{
		SnapshotId: id, ChangedBlocksCount: aws.Int32(2), Checksum: aws.String(base64.StdEncoding.EncodeToString(all[:])),
		ChecksumAlgorithm: "SHA256", ChecksumAggregationMethod: "LINEAR",
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := running.direct().ListSnapshotBlocks(t.Context(), &ebs.ListSnapshotBlocksInput{SnapshotId: id})
	if err != nil || len(list.Blocks) != 2 {
		t.Fatalf("the blocks are %+v (%v)", list, err)
	}
	running.stop(syscall.SIGKILL)

	running = serve(t, dir)
	for i, want := range []byte{1, 2} {
		b := list.Blocks[i]
		out, err := running.direct().GetSnapshotBlock(t.Context(), &ebs.GetSnapshotBlockInput{SnapshotId: id, BlockIndex: b.BlockIndex, BlockToken: b.BlockToken})
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(out.BlockData)
		if err != nil || !bytes.Equal(data, bytes.Repeat([]byte{want}, 512<<10)) {
			t.Errorf("block %d differs (%v)", *b.BlockIndex, err)
		}
		_ = out.BlockData.Close()
	}
}
