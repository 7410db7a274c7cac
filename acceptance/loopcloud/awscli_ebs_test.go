package loopcloud

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/volume"
	"github.com/packer-chroot/packer-plugin-chroot/testdir"
)

// TestAWSCLIDirect writes a snapshot with the EBS direct APIs and reads it back.
func TestAWSCLIDirect(t *testing.T) {
	disks, err := volume.Open(testdir.New(t), volume.Xen, volume.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := newAWSCLIOf(t, disks)
	direct := a.with("ebs")
	block := bytes.Repeat([]byte("block by block!\n"), 512<<10/16)
	sum := sha256.Sum256(block)
	all := sha256.Sum256(sum[:])
	in, out := filepath.Join(testdir.New(t), "in"), filepath.Join(testdir.New(t), "out")
	if err := os.WriteFile(in, block, 0o644); err != nil {
		t.Fatal(err)
	}
	id := direct.does("start-snapshot", "--volume-size", "1", "--description", "direct", "--tags", "Key=a,Value=b", "--query", "SnapshotId")
	direct.fails("ResourceNotFoundException", "list-snapshot-blocks", "--snapshot-id", id)
	direct.prints(encoded(sum), "put-snapshot-block", "--snapshot-id", id, "--block-index", "7", "--data-length", "524288", "--block-data", in,
		"--checksum", encoded(sum), "--checksum-algorithm", "SHA256", "--query", "Checksum")
	direct.does("complete-snapshot", "--snapshot-id", id, "--changed-blocks-count", "1", "--checksum", encoded(all),
		"--checksum-algorithm", "SHA256", "--checksum-aggregation-method", "LINEAR")
	a.prints("completed 100% direct b", "describe-snapshots", "--snapshot-ids", id, "--query", "Snapshots[].[State,Progress,Description,Tags[0].Value]")
	listed := strings.Fields(direct.does("list-snapshot-blocks", "--snapshot-id", id, "--query", "Blocks[].[BlockIndex,BlockToken]"))
	if len(listed) != 2 || listed[0] != "7" {
		t.Fatalf("the blocks are %v", listed)
	}
	direct.does("get-snapshot-block", "--snapshot-id", id, "--block-index", "7", "--block-token", listed[1], out)
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, block) {
		t.Errorf("the block differs (%v)", err)
	}
}

func encoded(sum [sha256.Size]byte) string { return base64.StdEncoding.EncodeToString(sum[:]) }
