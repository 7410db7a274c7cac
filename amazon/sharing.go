package amazon

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"github.com/packer-chroot/packer-plugin-chroot/bake"
)

// audience is an option that shares, with its accounts, groups or ARNs.
type audience struct {
	option string
	with   []string
	// public reports whether it is everybody.
	public bool
	// created reports whether only the snapshots are shared that the build creates;
	// otherwise the image is, and with it all of its snapshots.
	created bool
}

// audiences returns the options that share the image and its snapshots.
func (c *Config) audiences() []audience {
	return slices.DeleteFunc([]audience{
		{"ami_groups", c.AMIGroups, true, false},
		{"snapshot_groups", c.SnapshotGroups, true, true},
		{"ami_users", c.AMIUsers, false, false},
		{"ami_org_arns", c.AMIOrgARNs, false, false},
		{"ami_ou_arns", c.AMIOUARNs, false, false},
		{"snapshot_users", c.SnapshotUsers, false, true},
	}, func(a audience) bool { return len(a.with) == 0 })
}

// customer describes a key that other accounts can use.
const customer = "a customer managed key that they may use"

// managedKey matches the alias of the key that AWS manages for EBS, and an ARN of it.
var managedKey = regexp.MustCompile(`^(arn:aws[a-z-]*:kms:[a-z0-9-]*:[0-9]{12}:)?alias/aws/ebs$`)

// checkSharing returns an error if EC2 would refuse to share the image at the end: because the
// account blocks public access, or because other accounts cannot use the key. It allows a key or a
// setting that is not known.
func (c imagePlan) checkSharing(ctx context.Context, p bake.Publication, snapshots map[string]types.Snapshot, decided *decisions) error {
	if len(c.config.audiences()) == 0 {
		return nil
	}
	registered, err := c.encryptedVolumes(ctx, snapshots)
	if err != nil {
		return err
	}
	decided.shared = p
	if i := slices.IndexFunc(registered, func(s encryptedVolume) bool { return s.created }); i >= 0 {
		decided.root = &registered[i]
	}
	return errors.Join(c.checkPublicAccess(ctx, regionsOf(c.client.Region(), p)), c.checkEncrypted(ctx, p, registered))
}

// regionsOf returns the regions in which there will be an image.
func regionsOf(home string, p bake.Publication) []string {
	var regions []string
	if !p.Passing {
		regions = append(regions, home)
	}
	for _, wanted := range p.Copies {
		regions = append(regions, wanted.Region)
	}
	return regions
}

// checkPublicAccess asks each region whether it lets the image and its snapshots become
// public, if they are to be.
func (c *Cloud) checkPublicAccess(ctx context.Context, regions []string) error {
	if len(c.config.AMIGroups)+len(c.config.SnapshotGroups) == 0 {
		return nil
	}
	blocks := make([]error, len(regions))
	var work errgroup.Group
	for i, region := range regions {
		work.Go(func() error {
			blocks[i] = c.there(region).publicAccess(ctx)
			return nil
		})
	}
	_ = work.Wait() // a setting that cannot be read is no error
	return errors.Join(blocks...)
}

func (c *Cloud) publicAccess(ctx context.Context) error {
	var errs []error
	if len(c.config.AMIGroups) > 0 {
		if why := c.client.imagesBlocked(ctx); why != "" {
			errs = append(errs, fmt.Errorf("ami_groups is %q, but %s, or share with accounts by ami_users", c.config.AMIGroups, why))
		}
	}
	if len(c.config.SnapshotGroups) > 0 {
		if why := c.client.snapshotsBlocked(ctx); why != "" {
			errs = append(errs, fmt.Errorf("snapshot_groups is %q, but %s, or share with accounts by snapshot_users", c.config.SnapshotGroups, why))
		}
	}
	return errors.Join(errs...)
}

// there is the Cloud of a region.
func (c *Cloud) there(region string) *Cloud { return c.In(region).(*Cloud) }

// checkEncrypted returns an error for encrypted volumes of the image and of its copies that EC2
// would not share.
func (c *Cloud) checkEncrypted(ctx context.Context, p bake.Publication, registered []encryptedVolume) error {
	all := slices.Clone(registered)
	if p.Passing {
		all = nil
	}
	for _, wanted := range p.Copies {
		if s, encrypted := c.encryptedCopy(ctx, wanted, registered); encrypted {
			all = append(all, s)
		}
	}
	var errs []error
	for _, s := range all {
		errs = append(errs, c.shareable(ctx, s))
	}
	return errors.Join(errs...)
}

// shareable returns an error if EC2 would not share an encrypted volume as the options ask.
func (c *Cloud) shareable(ctx context.Context, s encryptedVolume) error {
	for _, a := range c.config.audiences() {
		switch {
		case a.created && !s.created, s.blank && !a.public:
		case a.public:
			return fmt.Errorf("%s is %q, but nothing encrypted can be public, and %s in %s will be encrypted: %s; "+
				"leave %s out, or build without encryption", a.option, a.with, s.what, s.region, s.cause, a.option)
		default:
			return c.shareableByKey(ctx, a, s)
		}
	}
	return nil
}

// shareableByKey returns an error if AWS manages the key of an encrypted volume. If
// that is not known, the user is warned.
func (c *Cloud) shareableByKey(ctx context.Context, a audience, s encryptedVolume) error {
	if s.later {
		return nil
	}
	key, managed := c.there(s.region).managerOf(ctx, s)
	switch managed {
	case managedByAWS:
		return fmt.Errorf("%s is %q, but %s in %s will be encrypted with the key %s, which AWS manages and no other account can use: %s; %s",
			a.option, a.with, s.what, s.region, key, s.cause, s.remedy)
	case managerUnknown:
		c.logf("warning: %s is %q, and %s in %s will be encrypted with a key that may be one that AWS manages (%s): %s. "+
			"If it is, EC2 refuses to share it at the end of the build: %s", a.option, a.with, s.what, s.region, key, s.cause, s.remedy)
	}
	return nil
}

// keyHolder is the manager of a key.
type keyHolder int

const (
	managerUnknown keyHolder = iota
	managedByAWS
	managedByCustomer
)

// managerOf returns the key of an encrypted volume, in words, and its manager. EC2 names the
// default key by its alias if AWS manages it.
func (c *Cloud) managerOf(ctx context.Context, s encryptedVolume) (key string, by keyHolder) {
	key = s.key
	if key == "" {
		key = c.client.defaultKey(ctx)
	}
	switch {
	case key == "":
		return "the region's default key for EBS, which ec2:GetEbsDefaultKmsKeyId would tell", managerUnknown
	case managedKey.MatchString(key):
		return key, managedByAWS
	case s.told && key == unread:
		return "the key of a snapshot that EC2 does not name", managerUnknown
	case s.told:
		by = c.client.keyManager(ctx, key)
	default:
		by = managedByCustomer
	}
	if by == managerUnknown {
		key += ", of which kms:DescribeKey would tell"
	}
	return key, by
}

// checkVolume refuses to go on with a volume that cannot be shared: one that is encrypted
// although no option asks for it, or with a key that only EC2's answer names.
func (c *Cloud) checkVolume(ctx context.Context, decided decisions, out *ec2.CreateVolumeOutput) error {
	if !aws.ToBool(out.Encrypted) || len(c.config.audiences()) == 0 {
		return nil
	}
	plan, expected := decided.shared, decided.root
	if expected == nil {
		return c.checkEncrypted(ctx, plan, []encryptedVolume{c.encryptedUnasked(ctx, out)})
	}
	if !expected.later || plan.Passing {
		return nil
	}
	now := *expected
	now.key, now.told, now.later = keyOf(out.KmsKeyId), true, false
	return c.shareable(ctx, now)
}
