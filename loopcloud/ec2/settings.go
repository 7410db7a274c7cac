package ec2

import (
	"slices"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// byAccount is EC2's name for settings that no declarative policy manages.
const byAccount = "account"

// changeSettings changes the settings of the caller's account in its region.
func (c *call) changeSettings(in baseInput, change func(*state.Settings)) (state.Settings, error) {
	return c.st.ChangeSettings(c.caller, func(s *state.Settings) error {
		change(s)
		return nil
	}, in.DryRun)
}

// settings returns the settings of the caller's account in its region.
func (c *call) settings() state.Settings { return c.st.Settings(c.caller) }

type encryptionOutput struct {
	baseResponse
	ByDefault bool `xml:"ebsEncryptionByDefault"`
}

func (c *call) encryptionByDefault(*baseInput) (*encryptionOutput, error) {
	return &encryptionOutput{ByDefault: c.settings().EncryptByDefault}, nil
}

func (c *call) enableEncryption(in *baseInput) (*encryptionOutput, error) {
	return c.setEncryption(*in, true)
}

func (c *call) disableEncryption(in *baseInput) (*encryptionOutput, error) {
	return c.setEncryption(*in, false)
}

func (c *call) setEncryption(in baseInput, to bool) (*encryptionOutput, error) {
	s, err := c.changeSettings(in, func(s *state.Settings) { s.EncryptByDefault = to })
	return &encryptionOutput{ByDefault: s.EncryptByDefault}, err
}

type defaultKeyOutput struct {
	baseResponse
	KeyID string `xml:"kmsKeyId"`
}

// defaultKeyOf returns the default key as EC2 does: the alias of the key that AWS manages, or the
// ARN of another key.
func (c *call) defaultKeyOf(s state.Settings) *defaultKeyOutput {
	if s.DefaultKey == state.DefaultKeyAlias {
		return &defaultKeyOutput{KeyID: s.DefaultKey}
	}
	return &defaultKeyOutput{KeyID: state.KeyARN(c.caller, s.DefaultKey)}
}

func (c *call) defaultKey(*baseInput) (*defaultKeyOutput, error) {
	return c.defaultKeyOf(c.settings()), nil
}

type modifyDefaultKeyInput struct {
	baseInput
	KeyID string `query:"KmsKeyId,required"`
}

func (c *call) modifyDefaultKey(in *modifyDefaultKeyInput) (*defaultKeyOutput, error) {
	s, err := c.changeSettings(in.baseInput, func(s *state.Settings) { s.DefaultKey = in.KeyID })
	return c.defaultKeyOf(s), err
}

func (c *call) resetDefaultKey(in *baseInput) (*defaultKeyOutput, error) {
	s, err := c.changeSettings(*in, func(s *state.Settings) { s.DefaultKey = "" })
	return c.defaultKeyOf(s), err
}

type imageBlockOutput struct {
	baseResponse
	State     string `xml:"imageBlockPublicAccessState"`
	ManagedBy string `xml:"managedBy,omitempty"`
}

// imageBlock returns EC2's name for whether public images are blocked.
func imageBlock(s state.Settings) string {
	if s.BlockPublicImages {
		return state.BlockNewSharing
	}
	return state.Unblocked
}

func (c *call) imageBlock(*baseInput) (*imageBlockOutput, error) {
	return &imageBlockOutput{State: imageBlock(c.settings()), ManagedBy: byAccount}, nil
}

type enableImageBlockInput struct {
	baseInput
	State string `query:"ImageBlockPublicAccessState,required"`
}

func (c *call) enableImageBlock(in *enableImageBlockInput) (*imageBlockOutput, error) {
	if in.State != state.BlockNewSharing {
		return nil, query.Refuse("InvalidParameterValue", "Value (%s) for parameter ImageBlockPublicAccessState is invalid.", in.State)
	}
	s, err := c.changeSettings(in.baseInput, func(s *state.Settings) { s.BlockPublicImages = true })
	return &imageBlockOutput{State: imageBlock(s)}, err
}

func (c *call) disableImageBlock(in *baseInput) (*imageBlockOutput, error) {
	s, err := c.changeSettings(*in, func(s *state.Settings) { s.BlockPublicImages = false })
	return &imageBlockOutput{State: imageBlock(s)}, err
}

type snapshotBlockOutput struct {
	baseResponse
	State     string `xml:"state"`
	ManagedBy string `xml:"managedBy,omitempty"`
}

func (c *call) snapshotBlock(*baseInput) (*snapshotBlockOutput, error) {
	return &snapshotBlockOutput{State: c.settings().BlockPublicSnapshots, ManagedBy: byAccount}, nil
}

type enableSnapshotBlockInput struct {
	baseInput
	State string `query:"State,required"`
}

func (c *call) enableSnapshotBlock(in *enableSnapshotBlockInput) (*snapshotBlockOutput, error) {
	if in.State != state.BlockNewSharing && in.State != state.BlockAllSharing {
		return nil, query.Refuse("InvalidParameterValue", "Value (%s) for parameter State is invalid.", in.State)
	}
	s, err := c.changeSettings(in.baseInput, func(s *state.Settings) { s.BlockPublicSnapshots = in.State })
	return &snapshotBlockOutput{State: s.BlockPublicSnapshots}, err
}

func (c *call) disableSnapshotBlock(in *baseInput) (*snapshotBlockOutput, error) {
	s, err := c.changeSettings(*in, func(s *state.Settings) { s.BlockPublicSnapshots = state.Unblocked })
	return &snapshotBlockOutput{State: s.BlockPublicSnapshots}, err
}

type allowedImagesOutput struct {
	baseResponse
	State     string         `xml:"state"`
	Criteria  set[criterion] `xml:"imageCriterionSet"`
	ManagedBy string         `xml:"managedBy"`
}

// criterion is a criterion for images of other accounts. Only the provider can be a criterion
// here.
type criterion struct {
	Providers set[string] `xml:"imageProviderSet"`
}

func (c *call) allowedImages(*baseInput) (*allowedImagesOutput, error) {
	s := c.settings()
	out := &allowedImagesOutput{State: s.AllowedImages, ManagedBy: byAccount}
	if len(s.AllowedProviders) > 0 {
		out.Criteria.Items = []criterion{{set[string]{s.AllowedProviders}}}
	}
	return out, nil
}

type enableAllowedImagesInput struct {
	baseInput
	State string `query:"AllowedImagesSettingsState,required"`
}

type allowedImagesStateOutput struct {
	baseResponse
	State string `xml:"allowedImagesSettingsState"`
}

func (c *call) enableAllowedImages(in *enableAllowedImagesInput) (*allowedImagesStateOutput, error) {
	if in.State != state.Enabled && in.State != state.AuditMode {
		return nil, query.Refuse("InvalidParameterValue", "Value (%s) for parameter AllowedImagesSettingsState is invalid.", in.State)
	}
	s, err := c.changeSettings(in.baseInput, func(s *state.Settings) { s.AllowedImages = in.State })
	return &allowedImagesStateOutput{State: s.AllowedImages}, err
}

func (c *call) disableAllowedImages(in *baseInput) (*allowedImagesStateOutput, error) {
	s, err := c.changeSettings(*in, func(s *state.Settings) { s.AllowedImages = state.Disabled })
	return &allowedImagesStateOutput{State: s.AllowedImages}, err
}

type replaceCriteriaInput struct {
	baseInput
	Criteria []struct {
		Providers []string `query:"ImageProvider"`
	} `query:"ImageCriterion"`
}

// replaceCriteria replaces the criteria. An image must meet one of them.
func (c *call) replaceCriteria(in *replaceCriteriaInput) (*done, error) {
	_, err := c.changeSettings(in.baseInput, func(s *state.Settings) {
		s.AllowedProviders = nil
		for _, criterion := range in.Criteria {
			s.AllowedProviders = append(s.AllowedProviders, criterion.Providers...)
		}
	})
	return succeeded(err)
}

// allowed reports whether the caller's settings allow an image. The caller's own images are
// always allowed.
func (c *call) allowed(s state.Settings, i state.Image) bool {
	return i.Account == c.caller.Account || s.Allows(i.Account, c.aliasOf(i.Account))
}

// withoutHidden returns the images that the caller's settings do not hide.
func (c *call) withoutHidden(images []state.Image) []state.Image {
	s := c.settings()
	if s.AllowedImages != state.Enabled {
		return images
	}
	return slices.DeleteFunc(images, func(i state.Image) bool { return !c.allowed(s, i) })
}

// imageAllowed reports whether an image is allowed. It returns nil if the caller's account does
// not use allowed images.
func (c *call) imageAllowed(i state.Image) *bool {
	s := c.settings()
	if s.AllowedImages == state.Disabled {
		return nil
	}
	allowed := c.allowed(s, i)
	return &allowed
}

// mayPublish returns an error if the caller's settings block public images, or if there are too
// many.
func (c *call) mayPublish(id string) error {
	s := c.settings()
	if s.BlockPublicImages {
		return query.Refuse("OperationNotPermitted", "You can’t publicly share this image because block public access for AMIs is enabled for this account. "+
			"To publicly share the image, you must call the DisableImageBlockPublicAccess API.")
	}
	public := 0
	for _, i := range c.st.Images(c.caller) {
		if i.Account == c.caller.Account && i.Launch.Public && i.ID != id {
			public++
		}
	}
	if s.PublicImages > 0 && public >= s.PublicImages {
		return query.Refuse("ResourceLimitExceeded", "You have reached your quota of %d for the number of public images allowed in this Region. "+
			"Deregister unused public images or make them private, or request an increase in your public AMIs quota.", s.PublicImages)
	}
	return nil
}

// mayPublishSnapshots returns an error if the caller's settings block public snapshots.
func (c *call) mayPublishSnapshots() error {
	if block := c.settings().BlockPublicSnapshots; block != state.Unblocked {
		return query.Refuse("OperationNotPermitted", "Block public access for snapshots is %s in this Region, so the snapshot cannot be shared publicly.", block)
	}
	return nil
}
