package state

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Settings are EC2's settings of an account in a region. Outscale has none of them.
type Settings struct {
	// EncryptByDefault encrypts every new volume and copy.
	EncryptByDefault bool `json:"encrypt_by_default"`
	// DefaultKey is the key to encrypt with if the request has none; empty means DefaultKeyAlias.
	DefaultKey string `json:"default_key"`
	// BlockPublicImages prevents images from becoming public.
	BlockPublicImages bool `json:"block_public_images"`
	// BlockPublicSnapshots prevents snapshots from becoming public, unless it is Unblocked or
	// empty.
	BlockPublicSnapshots string `json:"block_public_snapshots"`
	// PublicImages limits the number of public images; 0 means no limit.
	PublicImages int `json:"public_images"`
	// AllowedImages controls whether images of owners other than AllowedProviders are hidden;
	// empty means Disabled.
	AllowedImages string `json:"allowed_images"`
	// AllowedProviders are account IDs and amazon, aws-marketplace, aws-backup-vault and none.
	AllowedProviders []string `json:"allowed_providers"`
}

// EC2's values of BlockPublicSnapshots and AllowedImages.
const (
	Unblocked       = "unblocked"
	BlockNewSharing = "block-new-sharing"
	BlockAllSharing = "block-all-sharing"

	Disabled  = "disabled"
	AuditMode = "audit-mode"
	Enabled   = "enabled"
)

// check returns an error if a setting is invalid.
func (s Settings) check() error {
	if s.DefaultKey != "" {
		if err := checkKey(s.DefaultKey); err != nil {
			return err
		}
	}
	if s.PublicImages < 0 {
		return refuse(InvalidValue, "setting", strconv.Itoa(s.PublicImages), "the number of public images is 0 or more")
	}
	for _, is := range []struct {
		value string
		known []string
	}{
		{s.BlockPublicSnapshots, []string{"", Unblocked, BlockNewSharing, BlockAllSharing}},
		{s.AllowedImages, []string{"", Disabled, AuditMode, Enabled}},
	} {
		if !slices.Contains(is.known, is.value) {
			return refuse(InvalidValue, "setting", is.value, "it is not one of %s", strings.Join(is.known[1:], ", "))
		}
	}
	return checkProviders(s.AllowedProviders)
}

// checkProviders returns an error if EC2 does not accept a provider of images.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImageCriterion.html
func checkProviders(providers []string) error {
	for _, p := range providers {
		account := len(p) == 12 && strings.Trim(p, "0123456789") == ""
		if !account && !slices.Contains([]string{"amazon", "aws-marketplace", "aws-backup-vault", "none"}, p) {
			return refuse(InvalidValue, "setting", p, "an image provider is an account id, amazon, aws-marketplace, aws-backup-vault or none")
		}
	}
	return nil
}

// defaults returns the settings with the empty values filled in.
func (s Settings) defaults() Settings {
	s.DefaultKey = cmp.Or(s.DefaultKey, DefaultKeyAlias)
	s.BlockPublicSnapshots = cmp.Or(s.BlockPublicSnapshots, Unblocked)
	s.AllowedImages = cmp.Or(s.AllowedImages, Disabled)
	s.AllowedProviders = slices.Clone(s.AllowedProviders)
	return s
}

// DefaultSettings returns the settings of an account that has changed none.
func DefaultSettings() Settings { return Settings{}.defaults() }

// settingsKey returns the key of an account's settings in a region.
func settingsKey(at Caller) string { return at.Account + " " + at.Region }

// Settings returns the settings of the caller's account in the caller's region.
func (c *Cloud) Settings(caller Caller) Settings {
	o := c.begin()
	defer o.end()
	return o.settings(caller)
}

func (o *op) settings(caller Caller) Settings { return o.db.Settings[settingsKey(caller)].defaults() }

// ChangeSettings calls change with the settings of the caller's account in the caller's region,
// stores and returns them. An error of change is returned as it is, and nothing changes.
func (c *Cloud) ChangeSettings(caller Caller, change func(*Settings) error, dry bool) (Settings, error) {
	o := c.begin()
	defer o.end()
	if err := o.inRegion(caller); err != nil {
		return Settings{}, err
	}
	next := o.settings(caller)
	if err := change(&next); err != nil {
		return Settings{}, err
	}
	if err := next.check(); err != nil {
		return Settings{}, err
	}
	if dry {
		return Settings{}, dryRun("setting", "")
	}
	if o.db.Settings == nil {
		o.db.Settings = map[string]Settings{}
	}
	o.db.Settings[settingsKey(caller)] = next
	return next.defaults(), o.save()
}

// Allows reports whether an account with these settings sees images of an owner, who has an
// account and perhaps an alias.
func (s Settings) Allows(account, alias string) bool {
	return slices.Contains(s.AllowedProviders, account) || alias != "" && slices.Contains(s.AllowedProviders, alias)
}
