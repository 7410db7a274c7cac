package amazon

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/bake"
	"github.com/packer-chroot/packer-plugin-chroot/event"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk"
	"github.com/packer-chroot/packer-plugin-chroot/lazydisk/block"
)

var _ bake.BlockStore = (*Cloud)(nil)

// Place asks STS for the account of the keys.
func (c *Cloud) Place(ctx context.Context) (bake.Host, error) {
	account, err := c.client.account(ctx)
	if err != nil {
		return bake.Host{}, err
	}
	return bake.Host{Account: account, Region: c.client.Region(), Cloud: c.client.cloud.String()}, nil
}

// Blocks returns the blocks of a snapshot. Those of an encrypted one would not be encrypted in the
// cache.
func (c *Cloud) Blocks(ctx context.Context, id bake.SnapshotID) (source block.Source, key string, err error) {
	s, err := c.client.snapshot(ctx, id)
	if err != nil {
		return nil, "", err
	}
	source = c.ebs().Source(string(id))
	if aws.ToBool(s.Encrypted) && !c.config.BlockCacheEncrypted {
		c.logf("%s is encrypted, so its blocks are not kept in the block cache; block_cache_encrypted keeps them, unencrypted", id)
		return source, "", nil
	}
	return source, c.cacheKey(id), nil
}

// cacheKey returns a key that no other snapshot of any cloud has.
func (c *Cloud) cacheKey(id bake.SnapshotID) string {
	return fmt.Sprintf("%s/%s/%s", cmp.Or(c.client.cloud.String(), c.client.Endpoint(), "aws"), c.client.Region(), id)
}

// uploadTimeout is the longest time that EBS waits for blocks. A build can be paused for so long.
const uploadTimeout = 4320 * time.Minute

// Start starts a snapshot. Its client token makes a repeated call answer the same snapshot.
func (c *Cloud) Start(ctx context.Context, spec bake.StartSpec) (bake.SnapshotID, error) {
	tags := map[string]string{bake.BuildTag: string(spec.Build)}
	maps.Copy(tags, spec.Tags)
	started, err := c.ebs().Start(ctx, ebsdirect.Spec{
		Token: token("direct snapshot", c.client.Region(), spec), SizeGiB: spec.SizeGiB, Parent: string(spec.Parent),
		Encrypted: spec.Encrypted, KeyARN: spec.KMSKeyID, Description: spec.Description, Tags: tags, Timeout: uploadTimeout,
	})
	if err != nil {
		return "", unsettledIf(ebsdirect.IsUnknown(err) && c.isCompleted(ctx, spec.Parent), err)
	}
	id, err := newID[bake.SnapshotID](c, &started.ID, "start a snapshot")
	if err != nil {
		return "", err
	}
	started.Encrypted = started.Encrypted || spec.Encrypted || c.mayBeEncrypted(ctx, spec.Parent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started[id] = started
	return id, nil
}

// mayBeEncrypted reports whether a snapshot is not known to be unencrypted; without one there is
// nothing to inherit.
func (c *Cloud) mayBeEncrypted(ctx context.Context, id bake.SnapshotID) bool {
	if id == "" {
		return false
	}
	s, err := c.client.snapshot(ctx, id)
	return err != nil || aws.ToBool(s.Encrypted)
}

// FindStarted lists the account's snapshots that carry the build's ID.
func (c *Cloud) FindStarted(ctx context.Context, build bake.BuildID) ([]bake.SnapshotID, error) {
	all, err := c.client.snapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: []types.Filter{filter("tag:"+bake.BuildTag, string(build))},
	})
	if err != nil {
		return nil, c.client.cannot(err, "list the snapshots of build %s", build)
	}
	var own []types.Snapshot
	for _, s := range all {
		if tagsOf(s.Tags)[bake.BuildTag] == string(build) {
			own = append(own, s)
		}
	}
	return idsOf[bake.SnapshotID](own, func(s types.Snapshot) *string { return s.SnapshotId }), nil
}

// Upload writes the changed blocks, and those of the source that the snapshot does not inherit.
func (c *Cloud) Upload(ctx context.Context, spec bake.UploadSpec) (bake.Uploaded, error) {
	upload := c.ebs().Upload(c.target(spec))
	summary, err := spec.Changes(ctx, c.ebs().Parallel(), func(ctx context.Context, change lazydisk.Change) error {
		return upload.Write(ctx, ebsdirect.Block{
			Index: change.Index, Sum: change.Sum, Data: change.Data, Zero: change.Zero, Present: change.InParent, Equal: change.Equal,
		})
	})
	_, skipped := upload.Blocks()
	if err == nil {
		err = upload.Complete(ctx)
	}
	written, _ := upload.Blocks()
	return bake.Uploaded{Blocks: written, Skipped: skipped, Summary: summary}, err
}

// Requests returns the numbers of requests for blocks.
func (c *Cloud) Requests() []event.Requests { return c.ebs().Requests() }

// target returns the target of an upload. A snapshot that this Cloud has not started may be encrypted.
func (c *Cloud) target(spec bake.UploadSpec) ebsdirect.Target {
	c.mu.Lock()
	started, known := c.started[spec.Snapshot]
	c.mu.Unlock()
	if !known {
		started = ebsdirect.Started{ID: string(spec.Snapshot), Encrypted: true}
	}
	target := ebsdirect.Target{Started: started, HasParent: spec.Basis.Parent != ""}
	if !target.HasParent && spec.Basis.Read != "" {
		target.Base = c.ebs().Source(string(spec.Basis.Read))
	}
	return target
}

// Unmark removes the build's tag from a snapshot.
func (c *Cloud) Unmark(ctx context.Context, id bake.SnapshotID) error {
	_, err := c.client.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{
		Resources: []string{string(id)}, Tags: []types.Tag{{Key: aws.String(bake.BuildTag)}},
	})
	late := false
	if hasCode(err, codeSnapshotNotFound) {
		if late = c.hasSnapshot(ctx, id); !late {
			return nil
		}
	}
	if err != nil {
		return unsettledIf(late, c.client.cannot(err, "remove the tag %s from %s", bake.BuildTag, id))
	}
	return nil
}
