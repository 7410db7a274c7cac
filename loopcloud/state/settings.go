package state

import (
	"slices"
	"strconv"
	"strings"
)

// Settings are what an account has set for all of its things in a region, as EC2 has
// them. Outscale has none of these.
type Settings struct {
	// EncryptByDefault encrypts every new volume and copy.
	EncryptByDefault bool `json:"encrypt_by_default"`
	// DefaultKey is the key of what is encrypted without one; empty is DefaultKeyAlias.
	DefaultKey string `json:"default_key"`
	// BlockPublicImages refuses to make an image public.
	BlockPublicImages bool `json:"block_public_images"`
	// BlockPublicSnapshots refuses to make a snapshot public, unless it is Unblocked or
	// empty.
	BlockPublicSnapshots string `json:"block_public_snapshots"`
	// PublicImages is how many images may be public at once; 0 is no limit.
	PublicImages int `json:"public_images"`
	// AllowedImages says whether images of others are hidden that have none of the
	// AllowedProviders; empty is Disabled.
	AllowedImages string `json:"allowed_images"`
	// AllowedProviders are account ids and amazon, aws-marketplace, aws-backup-vault and
	// none.
	AllowedProviders []string `json:"allowed_providers"`
}

// The states of BlockPublicSnapshots and AllowedImages, in EC2's words.
const (
	Unblocked       = "unblocked"
	BlockNewSharing = "block-new-sharing"
	BlockAllSharing = "block-all-sharing"

	Disabled  = "disabled"
	AuditMode = "audit-mode"
	Enabled   = "enabled"
)

// check refuses what cannot be a setting.
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
			return refuse(InvalidValue, "setting", is.value, "it is none of %s", strings.Join(is.known[1:], ", "))
		}
	}
	return checkProviders(s.AllowedProviders)
}

// checkProviders refuses what EC2 does not take for a provider of images.
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

// defaults returns the settings with the words of what is not set.
func (s Settings) defaults() Settings {
	s.DefaultKey = either(s.DefaultKey, DefaultKeyAlias)
	s.BlockPublicSnapshots = either(s.BlockPublicSnapshots, Unblocked)
	s.AllowedImages = either(s.AllowedImages, Disabled)
	s.AllowedProviders = slices.Clone(s.AllowedProviders)
	return s
}

// DefaultSettings returns the settings of an account that has changed none.
func DefaultSettings() Settings { return Settings{}.defaults() }

// settingsKey is where the settings of an account in a region are kept.
func settingsKey(at Caller) string { return at.Account + " " + at.Region }

// Settings returns what the caller's account has set in the caller's region.
func (c *Cloud) Settings(caller Caller) Settings {
	o := c.begin()
	defer o.end()
	return o.settings(caller)
}

func (o *op) settings(caller Caller) Settings { return o.db.Settings[settingsKey(caller)].defaults() }

// ChangeSettings lets change alter the settings of the caller's account in the caller's
// region, and returns them. An error of change is returned as it is, and nothing changes.
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

// Allows reports whether an account with these settings sees an image of a provider, who
// has an account and perhaps an alias.
func (s Settings) Allows(account, alias string) bool {
	return slices.Contains(s.AllowedProviders, account) || alias != "" && slices.Contains(s.AllowedProviders, alias)
}
