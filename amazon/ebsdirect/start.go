package ebsdirect

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"

	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

// Spec is the specification of a new snapshot.
type Spec struct {
	// Token identifies the request: EBS creates one snapshot for it, however often it is made.
	Token       string
	SizeGiB     int64
	Description string
	Tags        map[string]string
	// Parent is a snapshot of the account. The new snapshot has its blocks, except those that are
	// written, and its encryption. "" is none.
	Parent string
	// Encrypted asks for encryption, and KeyARN is the ARN of the key; "" is the default key. Both
	// are for snapshots without a parent.
	Encrypted bool
	KeyARN    string
	// Timeout is the time without a written block after which EBS gives the snapshot up, from 10
	// minutes to 3 days. 0 is an hour.
	Timeout time.Duration
}

// Started is a snapshot that can be written.
type Started struct {
	ID string
	// Encrypted reports whether EBS encrypts it.
	Encrypted bool
	// At is the time at which it was started, by the clock of the policy.
	At time.Time
}

// Start starts a snapshot.
func (c *Client) Start(ctx context.Context, spec Spec) (Started, error) {
	var out *ebs.StartSnapshotOutput
	err := c.do(ctx, "StartSnapshot", true, func(ctx context.Context) (err error) {
		out, err = c.calls.StartSnapshot(ctx, spec.input())
		return err
	})
	if err == nil {
		err = spec.check(out)
	}
	if err != nil {
		return Started{}, c.Cannot(err, "start a snapshot%s", spec.on())
	}
	return Started{ID: *out.SnapshotId, Encrypted: aws.ToString(out.KmsKeyArn) != "" || !isPlain(out.SseType), At: c.now()}, nil
}

// on names the parent for messages.
func (s Spec) on() string {
	if s.Parent == "" {
		return ""
	}
	return " on " + s.Parent
}

// isPlain reports whether a type of encryption is none. EBS may leave it out.
func isPlain(t types.SSEType) bool { return t == "" || t == types.SSETypeNone }

// input returns the request. EBS refuses to take an encryption together with a parent.
func (s Spec) input() *ebs.StartSnapshotInput {
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(s.SizeGiB), ClientToken: aws.String(s.Token)}
	if s.Description != "" {
		in.Description = aws.String(s.Description)
	}
	if s.Parent != "" {
		in.ParentSnapshotId = aws.String(s.Parent)
	}
	if s.Encrypted {
		in.Encrypted = aws.Bool(true)
	}
	if s.KeyARN != "" {
		in.KmsKeyArn = aws.String(s.KeyARN)
	}
	if s.Timeout != 0 {
		in.Timeout = aws.Int32(int32(s.Timeout / time.Minute))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Tags)) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(key), Value: aws.String(s.Tags[key])})
	}
	return in
}

// check returns an error if a started snapshot is not the one that was requested.
func (s Spec) check(out *ebs.StartSnapshotOutput) error {
	switch {
	case aws.ToString(out.SnapshotId) == "":
		return fmt.Errorf("%w: it has no snapshot ID", errMalformed)
	case aws.ToInt32(out.BlockSize) != block.Size:
		return fmt.Errorf("%w: the blocks of %s have %d bytes, not %d", errMalformed, *out.SnapshotId, aws.ToInt32(out.BlockSize), block.Size)
	case aws.ToInt64(out.VolumeSize) != s.SizeGiB:
		return fmt.Errorf("%w: %s has %d GiB, not %d", errMalformed, *out.SnapshotId, aws.ToInt64(out.VolumeSize), s.SizeGiB)
	case aws.ToString(out.ParentSnapshotId) != s.Parent:
		return fmt.Errorf("%w: the parent of %s is %q, not %q", errMalformed, *out.SnapshotId, aws.ToString(out.ParentSnapshotId), s.Parent)
	}
	return nil
}
