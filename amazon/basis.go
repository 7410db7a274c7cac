package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/packer-chroot/packer-plugin-chroot/amazon/ebsdirect"
	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// Basis chooses the snapshot that a direct build reads, and the parent of the new snapshot.
//
// A parent must belong to the account, and its encryption is inherited. Otherwise all blocks must be
// uploaded, or the source is copied, which also makes its blocks readable if they are not, and
// encrypts them.
// Source: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-encryption.html
func (c *Cloud) Basis(ctx context.Context, facts bake.Facts, p bake.Publication) (bake.Basis, error) {
	plan := c.planOf(facts)
	plan.passing = p.Passing
	o, err := plan.origin(ctx, facts)
	if err != nil {
		return bake.Basis{}, err
	}
	sealed, err := plan.sealing(ctx, o)
	if err != nil {
		return bake.Basis{}, err
	}
	if err := c.checkVolume(ctx, decisionsIn(p.Details), sealed.asVolume()); err != nil {
		return bake.Basis{}, err
	}
	switch {
	case facts.Source == nil:
		return bake.Basis{Encryption: sealed.asked()}, nil
	case o.own && o.inherits(sealed):
		return bake.Basis{Read: o.snapshot, Parent: o.snapshot}, nil
	}
	return c.otherBasis(ctx, facts, o, sealed)
}

// otherBasis chooses between a copy and a full upload.
func (c *Cloud) otherBasis(ctx context.Context, facts bake.Facts, o origin, sealed sealing) (bake.Basis, error) {
	price := priceOf(o, !onEC2(hostFiles), c.config.keepsCopy())
	found, err := c.sourceCopies(ctx, facts, sealed)
	if err != nil {
		return bake.Basis{}, err
	}
	wanted := &bake.SourceCopy{Keep: c.config.keepsCopy(), Encryption: sealed.asked()}
	if wanted.Keep {
		wanted.Tags = map[string]string{copyTag: copyValue(facts.Source.ID, sealed)}
	}
	switch {
	case found.ready != nil:
		root := bake.SnapshotID(aws.ToString(found.ready.SnapshotId))
		return bake.Basis{Read: root, Parent: root, Reason: fmt.Sprintf("%s: the copy %s of it is used, which costs %s while it exists", o.problem(sealed), found.image, price.month)}, nil
	case found.pending != "":
		wanted.Pending = found.pending
		return bake.Basis{Copy: wanted, Reason: fmt.Sprintf("%s: another build is copying it as %s", o.problem(sealed), found.pending)}, nil
	case !o.readable, o.own && price.copyIsCheaper:
		return bake.Basis{Copy: wanted, Reason: fmt.Sprintf("%s, so it is copied into the account: %s", o.problem(sealed), price.ofCopy())}, nil
	default:
		return bake.Basis{Read: o.snapshot, Encryption: sealed.asked(), Reason: fmt.Sprintf("%s, so all of its blocks are uploaded: %s", o.problem(sealed), price.ofUpload())}, nil
	}
}

// origin is the root snapshot of the source image.
type origin struct {
	snapshot bake.SnapshotID
	image    bake.ImageID
	sizeGiB  int64
	// stored is the size of the snapshot's blocks in bytes, 0 if EC2 does not tell.
	stored int64
	// own reports whether it belongs to the account, and readable whether its blocks can be read.
	own, readable bool
	encrypted     bool
	// key is the ARN of its key.
	key string
}

// origin reads the root snapshot of the source image; the zero value from scratch.
func (c imagePlan) origin(ctx context.Context, facts bake.Facts) (origin, error) {
	if facts.Source == nil {
		return origin{}, nil
	}
	id := facts.Source.Root.Snapshot
	found, err := c.client.snapshotsAmong(ctx, []string{string(id)})
	if err != nil {
		return origin{}, c.client.cannot(err, "read snapshot %s of the source image", id)
	}
	o := origin{snapshot: id, image: facts.Source.ID, sizeGiB: facts.Source.Root.SizeGiB, encrypted: c.sourceRoot().Encrypted}
	if i := slices.IndexFunc(found, func(s types.Snapshot) bool { return aws.ToString(s.SnapshotId) == string(id) }); i >= 0 {
		s := found[i]
		o.own = aws.ToString(s.OwnerId) == facts.Host.Account
		o.encrypted, o.key, o.stored = aws.ToBool(s.Encrypted), aws.ToString(s.KmsKeyId), aws.ToInt64(s.FullSnapshotSizeInBytes)
	}
	o.readable = o.own
	if o.own {
		return o, nil
	}
	err = c.ebs().Source(string(id)).Probe(ctx)
	if err != nil && !errors.Is(err, ebsdirect.ErrUnreadable) {
		return o, err
	}
	o.readable = err == nil
	return o, nil
}

// inherits reports whether a snapshot with this parent is encrypted as wanted.
func (o origin) inherits(s sealing) bool {
	return o.encrypted == s.encrypted && (!s.encrypted || s.key == "" || s.key == o.key)
}

// problem says why the snapshot cannot be the parent.
func (o origin) problem(s sealing) string {
	switch {
	case !o.readable:
		return fmt.Sprintf("the blocks of %s cannot be read directly, because its root snapshot %s is public, or not shared with this account", o.image, o.snapshot)
	case !o.own:
		return fmt.Sprintf("the root snapshot %s of %s belongs to another account, and cannot be the parent of the new one", o.snapshot, o.image)
	}
	return fmt.Sprintf("the AMI will be encrypted (%s), and would inherit the encryption of %s from its snapshot %s", s.cause, o.image, o.snapshot)
}

// sealing is the encryption of the new snapshot.
type sealing struct {
	encrypted bool
	// key is the ARN of the key; empty is the default key. name is then the name of that, if it is
	// known.
	key, name string
	// cause is the option or setting that encrypts it.
	cause string
}

// asked returns the encryption that is asked for.
func (s sealing) asked() bake.Encryption {
	return bake.Encryption{Encrypted: s.encrypted, KMSKeyID: s.key}
}

// asVolume describes the encryption as EC2 does for the volume of an attached build.
func (s sealing) asVolume() *ec2.CreateVolumeOutput {
	return &ec2.CreateVolumeOutput{Encrypted: aws.Bool(s.encrypted), KmsKeyId: optional(s.key)}
}

// sealing returns how the new snapshot must be encrypted: as an attached volume would be.
func (c imagePlan) sealing(ctx context.Context, o origin) (sealing, error) {
	requested := c.rootRequest()
	s := sealing{encrypted: requested.encrypted, cause: requested.cause}
	var err error
	switch {
	case requested.encrypted && requested.key != "":
		s.key, err = c.client.arnOfKey(ctx, c.host.Account, requested.key)
	case requested.encrypted, o.encrypted:
		s.encrypted, s.cause = true, cmp.Or(s.cause, "the source is")
		if o.own && o.encrypted {
			s.key = o.key
		} else {
			s.name = c.client.defaultKey(ctx)
		}
	default:
		s.encrypted, err = c.client.mustEncryptByDefault(ctx)
		s.cause = byDefault(c.client.Region())
		if s.encrypted {
			s.name = c.client.defaultKey(ctx)
		}
	}
	return s, err
}

// mustEncryptByDefault reports whether the account encrypts all new snapshots. EBS refuses an
// unencrypted parent then, so the answer must be known.
func (c *Client) mustEncryptByDefault(ctx context.Context) (bool, error) {
	out, err := c.ec2.GetEbsEncryptionByDefault(ctx, &ec2.GetEbsEncryptionByDefaultInput{})
	if err != nil {
		return false, c.cannot(err, "find out whether the account encrypts all snapshots by default, which ebs_direct depends on")
	}
	return aws.ToBool(out.EbsEncryptionByDefault), nil
}
