package oapi

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// defaultProductCode is the product code of Linux and Unix, the default for images.
const defaultProductCode = "0001"

// imageView is an image in a response.
type imageView struct {
	ImageID        string         `json:"ImageId"`
	ImageName      string         `json:"ImageName"`
	Description    string         `json:"Description"`
	State          string         `json:"State"`
	StateComment   stateComment   `json:"StateComment"`
	AccountID      string         `json:"AccountId"`
	AccountAlias   string         `json:"AccountAlias,omitempty"`
	Architecture   string         `json:"Architecture"`
	BootModes      []string       `json:"BootModes"`
	CreationDate   string         `json:"CreationDate"`
	FileLocation   string         `json:"FileLocation"`
	ImageType      string         `json:"ImageType"`
	ProductCodes   []string       `json:"ProductCodes"`
	RootDeviceName string         `json:"RootDeviceName"`
	RootDeviceType string         `json:"RootDeviceType"`
	SecureBoot     bool           `json:"SecureBoot"`
	TPMMandatory   bool           `json:"TpmMandatory"`
	Mappings       []imageMapping `json:"BlockDeviceMappings"`
	Permissions    permissions    `json:"PermissionsToLaunch"`
	Tags           []tag          `json:"Tags"`

	virtualization string // for the filter: it is not in responses
}

// stateComment explains the state of an image.
type stateComment struct {
	StateMessage string `json:"StateMessage,omitempty"`
}

// imageMapping is a block device of an image in requests and responses.
type imageMapping struct {
	DeviceName        string    `json:"DeviceName"                  need:"yes"`
	VirtualDeviceName string    `json:"VirtualDeviceName,omitempty"`
	Bsu               *imageBsu `json:"Bsu,omitempty"`
}

// imageBsu describes the volume of a block device.
type imageBsu struct {
	SnapshotID         string `json:"SnapshotId,omitempty"`
	VolumeSize         *int64 `json:"VolumeSize,omitempty"`
	VolumeType         string `json:"VolumeType,omitempty"`
	Iops               *int64 `json:"Iops,omitempty"`
	DeleteOnVMDeletion *bool  `json:"DeleteOnVmDeletion,omitempty"`
}

func (c *call) viewImage(i state.Image) imageView {
	view := imageView{
		ImageID: i.ID, ImageName: i.Name, Description: i.Description,
		State: string(i.State), StateComment: stateComment{i.Reason},
		AccountID: i.Account, AccountAlias: c.alias(i.Account),
		Architecture: i.Architecture, BootModes: bootModes(i), CreationDate: wireTime(i.Created),
		FileLocation: i.Account + "/" + i.Name, ImageType: "machine",
		ProductCodes:   i.ProductCodes,
		RootDeviceName: i.RootDevice, RootDeviceType: "bsu", TPMMandatory: i.TPMMandatory,
		Mappings: []imageMapping{}, Permissions: permissionsView(i.Launch), Tags: tagsView(i.Tags),
		virtualization: i.Virtualization,
	}
	if len(view.ProductCodes) == 0 {
		view.ProductCodes = []string{defaultProductCode}
	}
	for _, m := range i.Mappings {
		if !m.NoDevice {
			view.Mappings = append(view.Mappings, viewMapping(m))
		}
	}
	return view
}

// bootModes returns the boot modes of an image, also of one that was created through EC2. The
// default is legacy.
func bootModes(i state.Image) []string {
	if len(i.BootModes) > 0 {
		return i.BootModes
	}
	switch i.BootMode {
	case "uefi":
		return []string{"uefi"}
	case "uefi-preferred":
		return []string{"legacy", "uefi"}
	}
	return []string{"legacy"}
}

// viewMapping returns a block device of an image in a response.
func viewMapping(m state.Mapping) imageMapping {
	view := imageMapping{DeviceName: m.Device, VirtualDeviceName: m.VirtualName}
	if v := m.Volume; v != nil {
		view.Bsu = &imageBsu{
			SnapshotID: v.SnapshotID, VolumeSize: &v.SizeGiB, VolumeType: typeView(v.Type),
			DeleteOnVMDeletion: &v.DeleteOnTermination,
		}
		if view.Bsu.VolumeType == typeIO1 {
			iops := min(v.IOPS, maxIOPS)
			view.Bsu.Iops = &iops
		}
	}
	return view
}

// imageResponse is the response of the calls that return one image.
type imageResponse struct {
	Image imageView `json:"Image"`
	baseResponse
}

type createImageRequest struct {
	baseRequest
	ImageName        string         `json:"ImageName"`
	Description      string         `json:"Description"`
	Architecture     string         `json:"Architecture"`
	RootDeviceName   string         `json:"RootDeviceName"`
	Mappings         []imageMapping `json:"BlockDeviceMappings"`
	BootModes        []string       `json:"BootModes"`
	ProductCodes     []string       `json:"ProductCodes"`
	TPMMandatory     bool           `json:"TpmMandatory"`
	SourceImageID    string         `json:"SourceImageId"`
	SourceRegionName string         `json:"SourceRegionName"`
}

// imageName matches the image names that the API's description allows.
var imageName = regexp.MustCompile(`^[A-Za-z0-9_ ()/.-]{3,128}$`)

// createImage registers an image of snapshots or copies an image.
func (c *call) createImage(in *createImageRequest) (*imageResponse, error) {
	var (
		img state.Image
		err error
	)
	switch {
	case in.ImageName != "" && !imageName.MatchString(in.ImageName):
		return nil, badValue.with("the value %q of the parameter ImageName is not 3 to 128 letters, digits and _ ()/.-", in.ImageName)
	case in.SourceImageID != "":
		img, err = c.copyImage(in)
	default:
		img, err = c.registerImage(in)
	}
	if err != nil {
		return nil, err
	}
	return &imageResponse{Image: c.viewImage(img)}, nil
}

// copyImage copies an image that the caller owns or may use, with its snapshots. The name of
// the copy defaults to the name of the source.
func (c *call) copyImage(in *createImageRequest) (state.Image, error) {
	if len(in.Mappings) > 0 || in.RootDeviceName != "" || in.Architecture != "" || len(in.BootModes) > 0 || len(in.ProductCodes) > 0 {
		return state.Image{}, badValue.with("SourceImageId can be combined with ImageName, Description and SourceRegionName only")
	}
	source, err := c.visibleImage(in.SourceImageID)
	if err != nil {
		return state.Image{}, err
	}
	if err := c.checkSourceRegion(in.SourceRegionName); err != nil {
		return state.Image{}, err
	}
	return c.st.CopyImage(c.caller, state.ImageCopyRequest{
		SourceID: in.SourceImageID, SourceRegion: in.SourceRegionName,
		Name: or(in.ImageName, source.Name), Description: in.Description, IDDigits: idDigits, DryRun: in.DryRun,
	})
}

// visibleImage returns an image that the caller owns or may use.
func (c *call) visibleImage(id string) (state.Image, error) {
	if err := checkID("ami", id); err != nil {
		return state.Image{}, err
	}
	all := c.st.Images(c.caller)
	i := slices.IndexFunc(all, func(img state.Image) bool { return img.ID == id })
	if i < 0 {
		return state.Image{}, noImage.with("the image %s does not exist", id)
	}
	return all[i], nil
}

func (c *call) registerImage(in *createImageRequest) (state.Image, error) {
	if err := in.checkRegistration(); err != nil {
		return state.Image{}, err
	}
	want := state.ImageRequest{
		Name: in.ImageName, Description: in.Description, IDDigits: idDigits, DryRun: in.DryRun,
		Attributes: state.ImageAttributes{
			Architecture: or(in.Architecture, "x86_64"), Virtualization: "hvm", RootDevice: in.RootDeviceName,
			BootModes: in.BootModes, TPMMandatory: in.TPMMandatory, ProductCodes: in.ProductCodes,
		},
	}
	for _, m := range in.Mappings {
		mapping, err := c.mapping(m)
		if err != nil {
			return state.Image{}, err
		}
		want.Mappings = append(want.Mappings, mapping)
	}
	return c.st.CreateImage(c.caller, want)
}

// checkRegistration returns an error if a registration lacks a parameter or has an invalid one.
func (in *createImageRequest) checkRegistration() error {
	root := slices.IndexFunc(in.Mappings, func(m imageMapping) bool { return m.DeviceName == in.RootDeviceName })
	switch {
	case in.SourceRegionName != "":
		return missing.with("the parameter SourceImageId is required with SourceRegionName")
	case in.ImageName == "":
		return missing.with("the parameter ImageName is required")
	case len(in.Mappings) == 0:
		return missing.with("the parameter BlockDeviceMappings or SourceImageId is required")
	case in.RootDeviceName == "":
		return missing.with("the parameter RootDeviceName is required")
	case in.RootDeviceName != rootDevice:
		return badValue.with("the value %q of the parameter RootDeviceName is not %s", in.RootDeviceName, rootDevice)
	case root < 0 || in.Mappings[root].Bsu == nil || in.Mappings[root].Bsu.SnapshotID == "":
		return badValue.with("BlockDeviceMappings has no snapshot for the root device %s", rootDevice)
	case in.Architecture != "" && in.Architecture != "x86_64" && in.Architecture != "i386":
		return badValue.with("the value %q of the parameter Architecture is neither i386 nor x86_64", in.Architecture)
	}
	for _, mode := range in.BootModes {
		if mode != "legacy" && mode != "uefi" {
			return badValue.with("the value %q of the parameter BootModes is neither legacy nor uefi", mode)
		}
	}
	return checkDevices(in.Mappings)
}

// checkDevices returns an error if a device name is invalid or repeated, or a device lacks its
// volume.
func checkDevices(mappings []imageMapping) error {
	seen := map[string]bool{}
	for _, m := range mappings {
		name := diskName(m.DeviceName)
		switch {
		case !isDevice(m.DeviceName):
			return badValue.with("the value %q of the parameter BlockDeviceMappings.DeviceName is not a device name", m.DeviceName)
		case seen[name]:
			return badValue.with("the device %s is in BlockDeviceMappings twice", m.DeviceName)
		case m.Bsu == nil && m.VirtualDeviceName == "":
			return missing.with("the parameter BlockDeviceMappings.Bsu is required for the device %s", m.DeviceName)
		case m.Bsu != nil && m.VirtualDeviceName != "":
			return badValue.with("the device %s has both Bsu and VirtualDeviceName", m.DeviceName)
		}
		seen[name] = true
	}
	return nil
}

// mapping returns a block device as the state holds it. The size defaults to that of the
// snapshot.
func (c *call) mapping(m imageMapping) (state.Mapping, error) {
	out := state.Mapping{Device: m.DeviceName, VirtualName: m.VirtualDeviceName}
	if m.Bsu == nil {
		return out, nil
	}
	b := *m.Bsu
	v := state.MappedVolume{
		SnapshotID: b.SnapshotID, SizeGiB: deref(b.VolumeSize), Type: or(b.VolumeType, typeStandard),
		IOPS: deref(b.Iops), DeleteOnTermination: b.DeleteOnVMDeletion == nil || *b.DeleteOnVMDeletion,
	}
	if b.SnapshotID != "" {
		if err := checkID("snap", b.SnapshotID); err != nil {
			return out, err
		}
		least := c.snapshotSize(b.SnapshotID)
		if v.SizeGiB == 0 {
			v.SizeGiB = least
		}
		if v.SizeGiB < least {
			return out, badValue.with("the value %d of the parameter VolumeSize is less than the snapshot's %d", v.SizeGiB, least)
		}
	} else if v.SizeGiB == 0 {
		return out, missing.with("the parameter VolumeSize or SnapshotId is required for the device %s", m.DeviceName)
	}
	out.Volume = &v
	return out, volumeSpec{size: v.SizeGiB, iops: v.IOPS, kind: v.Type}.check()
}

// volumes returns the block devices of an image that have a volume.
func volumes(v imageView) []imageBsu {
	var out []imageBsu
	for _, m := range v.Mappings {
		if m.Bsu != nil {
			out = append(out, *m.Bsu)
		}
	}
	return out
}

type readImagesResponse struct {
	Images []imageView `json:"Images"`
	nextPage
	baseResponse
}

var imageFilters = withTags(func(v imageView) []tag { return v.Tags }, map[string]filter[imageView]{
	"ImageIds":            {ids, one(func(v imageView) string { return v.ImageID })},
	"ImageNames":          {pattern, one(func(v imageView) string { return v.ImageName })},
	"Descriptions":        {pattern, func(v imageView) []string { return []string{v.Description} }},
	"AccountIds":          {text, one(func(v imageView) string { return v.AccountID })},
	"AccountAliases":      {text, one(func(v imageView) string { return v.AccountAlias })},
	"Architectures":       {text, one(func(v imageView) string { return v.Architecture })},
	"BootModes":           {text, func(v imageView) []string { return v.BootModes }},
	"FileLocations":       {pattern, one(func(v imageView) string { return v.FileLocation })},
	"Hypervisors":         {text, func(imageView) []string { return []string{"xen"} }},
	"ProductCodes":        {text, func(v imageView) []string { return v.ProductCodes }},
	"RootDeviceNames":     {text, one(func(v imageView) string { return v.RootDeviceName })},
	"RootDeviceTypes":     {text, func(imageView) []string { return []string{"bsu", "ebs"} }},
	"SecureBoot":          {boolean, flag(func(v imageView) bool { return v.SecureBoot })},
	"States":              {text, one(func(v imageView) string { return v.State })},
	"TpmMandatory":        {boolean, flag(func(v imageView) bool { return v.TPMMandatory })},
	"VirtualizationTypes": {text, one(func(v imageView) string { return or(v.virtualization, "hvm") })},
	"BlockDeviceMappingDeviceNames": {text, each(func(v imageView) []imageMapping { return v.Mappings },
		func(m imageMapping) string { return m.DeviceName })},
	"BlockDeviceMappingSnapshotIds": {ids, each(volumes, func(b imageBsu) string { return b.SnapshotID })},
	"BlockDeviceMappingVolumeTypes": {text, each(volumes, func(b imageBsu) string { return b.VolumeType })},
	"BlockDeviceMappingVolumeSizes": {number, each(volumes, func(b imageBsu) string {
		return strconv.FormatInt(deref(b.VolumeSize), 10)
	})},
	"BlockDeviceMappingDeleteOnVmDeletion": {boolean, each(volumes, func(b imageBsu) string {
		return strconv.FormatBool(deref(b.DeleteOnVMDeletion))
	})},
	"PermissionsToLaunchAccountIds":       {text, func(v imageView) []string { return v.Permissions.AccountIDs }},
	"PermissionsToLaunchGlobalPermission": {boolean, flag(func(v imageView) bool { return v.Permissions.GlobalPermission })},
})

func (c *call) readImages(in *listRequest) (*readImagesResponse, error) {
	images, next, err := list(in, imageFilters, mapped(c.st.Images(c.caller), c.viewImage))
	return &readImagesResponse{Images: images, nextPage: next}, err
}

type updateImageRequest struct {
	baseRequest
	ImageID      string            `json:"ImageId" need:"yes"`
	Description  *string           `json:"Description"`
	ProductCodes *[]string         `json:"ProductCodes"`
	Permissions  *permissionChange `json:"PermissionsToLaunch"`
}

// updateImage changes the given attributes. Sharing an image does not share its snapshots.
func (c *call) updateImage(in *updateImageRequest) (*imageResponse, error) {
	if err := checkID("ami", in.ImageID); err != nil {
		return nil, err
	}
	if in.Description == nil && in.ProductCodes == nil && in.Permissions == nil {
		return nil, missing.with("the parameter Description, ProductCodes or PermissionsToLaunch is required")
	}
	change, err := deref(in.Permissions).stateChange()
	if err != nil {
		return nil, err
	}
	img, err := c.st.UpdateImage(c.caller, in.ImageID, in.apply, in.DryRun)
	if err == nil && in.Permissions != nil {
		img, err = c.st.ShareImage(c.caller, in.ImageID, change, in.DryRun)
	}
	if err != nil {
		return nil, err
	}
	return &imageResponse{Image: c.viewImage(img)}, nil
}

// apply changes the description and the product codes of an image.
func (in *updateImageRequest) apply(img *state.Image) error {
	if in.Description != nil {
		img.Description = *in.Description
	}
	if in.ProductCodes != nil {
		img.ProductCodes = *in.ProductCodes
	}
	return nil
}

type deleteImageRequest struct {
	baseRequest
	ImageID string `json:"ImageId" need:"yes"`
}

func (c *call) deleteImage(in *deleteImageRequest) (*emptyResponse, error) {
	if err := checkID("ami", in.ImageID); err != nil {
		return nil, err
	}
	return succeeded(c.st.DeleteImage(c.caller, in.ImageID, in.DryRun))
}
