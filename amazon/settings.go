package amazon

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// readSetting reads a setting of the account in the region. It returns nil if there is no response. A
// build goes on without one: the permission may be missing, and EC2 refuses wrong requests later.
func readSetting[In, Out any](ctx context.Context, do call[In, Out]) *Out {
	out, err := do(ctx, new(In))
	if err != nil {
		return nil
	}
	return out
}

// encryptsByDefault reports whether the account is known to encrypt all new volumes and
// copies in the region.
func (c *Client) encryptsByDefault(ctx context.Context) bool {
	out := readSetting(ctx, c.ec2.GetEbsEncryptionByDefault)
	return out != nil && aws.ToBool(out.EbsEncryptionByDefault)
}

// defaultKey returns the key of volumes that are encrypted without one in the region; empty if it
// is not known.
func (c *Client) defaultKey(ctx context.Context) string {
	out := readSetting(ctx, c.ec2.GetEbsDefaultKmsKeyId)
	if out == nil {
		return ""
	}
	return aws.ToString(out.KmsKeyId)
}

// imagesBlocked returns why no AMI can be made public in the region; empty if nothing is
// known to prevent it.
func (c *Client) imagesBlocked(ctx context.Context) string {
	out := readSetting(ctx, c.ec2.GetImageBlockPublicAccessState)
	if out == nil || !blocks(aws.ToString(out.ImageBlockPublicAccessState)) {
		return ""
	}
	return c.blocked("AMIs", *out.ImageBlockPublicAccessState, out.ManagedBy, "ec2:DisableImageBlockPublicAccess")
}

// snapshotsBlocked is imagesBlocked for snapshots.
func (c *Client) snapshotsBlocked(ctx context.Context) string {
	out := readSetting(ctx, c.ec2.GetSnapshotBlockPublicAccessState)
	if out == nil || !blocks(string(out.State)) {
		return ""
	}
	return c.blocked("snapshots", string(out.State), out.ManagedBy, "ec2:DisableSnapshotBlockPublicAccess")
}

// blocks reports whether a state of block public access prevents new sharing. Both kinds
// of things have the word for the state that does not.
func blocks(state string) bool {
	return state != "" && state != string(types.SnapshotBlockPublicAccessStateUnblocked)
}

// blocked returns the setting that blocks public access, and advice on turning it off.
func (c *Client) blocked(things, state string, by types.ManagedBy, permission string) string {
	off := fmt.Sprintf("turn it off there (%s)", permission)
	if by == types.ManagedByDeclarativePolicy {
		off = "have the declarative policy of the organization changed that sets it"
	}
	return fmt.Sprintf("the account's setting Block public access for %s is %q in %s: %s", things, state, c.Region(), off)
}

// allowedImagesHint returns the setting that may hide the AMIs of other accounts in the region, for an error
// about an AMI that was not found; empty if nothing is known to hide any.
func (c *Client) allowedImagesHint(ctx context.Context) string {
	out := readSetting(ctx, c.ec2.GetAllowedImagesSettings)
	if out == nil || aws.ToString(out.State) != string(types.AllowedImagesSettingsEnabledStateEnabled) {
		return ""
	}
	by := "ec2:ReplaceImageCriteriaInAllowedImagesSettings"
	if out.ManagedBy == types.ManagedByDeclarativePolicy {
		by = "a declarative policy of the organization"
	}
	return fmt.Sprintf("; the account's setting Allowed AMIs is enabled in %s, and hides the AMIs of other accounts that do not meet its criteria%s: "+
		"if the AMI is hidden, have it allowed there by %s", c.Region(), providers(out.ImageCriteria), by)
}

// providers returns the image providers of criteria, in words.
func providers(criteria []types.ImageCriterion) string {
	var names []string
	for _, c := range criteria {
		names = append(names, c.ImageProviders...)
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf(" (image providers: %s)", strings.Join(names, ", "))
}
