package oapi

import (
	"regexp"
	"slices"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// defaultProductCode is that of Linux and Unix, which an image has that is not
// given another one.
const defaultProductCode = "0001"

type imageView struct {
	ImageID        string            `json:"ImageId"`
	ImageName      string            `json:"ImageName"`
	Description    string            `json:"Description"`
	State          string            `json:"State"`
	StateComment   map[string]string `json:"StateComment"`
	AccountID      string            `json:"AccountId"`
	AccountAlias   string            `json:"AccountAlias,omitempty"`
	Architecture   string            `json:"Architecture"`
	BootModes      []string          `json:"BootModes"`
	CreationDate   string            `json:"CreationDate"`
	FileLocation   string            `json:"FileLocation"`
	ImageType      string            `json:"ImageType"`
	ProductCodes   []string          `json:"ProductCodes"`
	RootDeviceName string            `json:"RootDeviceName"`
	RootDeviceType string            `json:"RootDeviceType"`
	SecureBoot     bool              `json:"SecureBoot"`
	TPMMandatory   bool              `json:"TpmMandatory"`
	Mappings       []imageMapping    `json:"BlockDeviceMappings"`
	Permissions    permissions       `json:"PermissionsToLaunch"`
	Tags           []tag             `json:"Tags"`

	virtualization string // for the filter only: the API does not tell of it
}

// imageMapping is a block device of an image, in requests and answers.
type imageMapping struct {
	DeviceName        string    `json:"DeviceName"                  need:"yes"`
	VirtualDeviceName string    `json:"VirtualDeviceName,omitempty"`
	Bsu               *imageBsu `json:"Bsu,omitempty"`
}

// imageBsu is the volume that a mapping makes.
type imageBsu struct {
	SnapshotID         string `json:"SnapshotId,omitempty"`
	VolumeSize         *int64 `json:"VolumeSize,omitempty"`
	VolumeType         string `json:"VolumeType,omitempty"`
	Iops               *int64 `json:"Iops,omitempty"`
	DeleteOnVMDeletion *bool  `json:"DeleteOnVmDeletion,omitempty"`
}

func (h *Handler) viewImage(i state.Image) imageView {
	view := imageView{
		ImageID: i.ID, ImageName: i.Name, Description: i.Description,
		State: string(i.State), StateComment: map[string]string{},
		AccountID: i.Account, AccountAlias: h.alias(i.Account),
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
	if i.Reason != "" {
		view.StateComment["StateMessage"] = i.Reason
	}
	for _, m := range i.Mappings {
		if !m.NoDevice {
			view.Mappings = append(view.Mappings, viewMapping(m))
		}
	}
	return view
}

// bootModes are an image's, in the API's words also where EC2 made it. One that
// says nothing answers legacy.
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

type createImageParams struct {
	common
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

// imageName is what the API's description says an image's name is.
var imageName = regexp.MustCompile(`^[A-Za-z0-9_ ()/.-]{3,128}$`)

// createImage registers an image of snapshots, or copies one.
func (h *Handler) createImage(r request, p createImageParams) (answer, error) {
	var (
		img state.Image
		err error
	)
	switch {
	case p.ImageName != "" && !imageName.MatchString(p.ImageName):
		return nil, badValue.with("the value %q of the parameter ImageName is not 3 to 128 letters, digits and _ ()/.-", p.ImageName)
	case p.SourceImageID != "":
		img, err = h.copyImage(r, p)
	default:
		img, err = h.registerImage(r, p)
	}
	if err != nil {
		return nil, err
	}
	return answer{"Image": h.viewImage(img)}, nil
}

// copyImage copies an image that the caller may use, which need not be its own,
// with its snapshots. A copy that is not given a name gets the source's.
func (h *Handler) copyImage(r request, p createImageParams) (state.Image, error) {
	if len(p.Mappings) > 0 || p.RootDeviceName != "" || p.Architecture != "" || len(p.BootModes) > 0 || len(p.ProductCodes) > 0 {
		return state.Image{}, badValue.with("SourceImageId goes with ImageName, Description and SourceRegionName only")
	}
	source, err := h.visibleImage(r.caller, p.SourceImageID)
	if err != nil {
		return state.Image{}, err
	}
	if err := checkSourceRegion(r, p.SourceRegionName); err != nil {
		return state.Image{}, err
	}
	return h.state.CopyImage(r.caller, state.ImageCopyRequest{
		SourceID: p.SourceImageID, SourceRegion: p.SourceRegionName,
		Name: or(p.ImageName, source.Name), Description: p.Description, IDDigits: idDigits, DryRun: p.DryRun,
	})
}

func (h *Handler) visibleImage(caller state.Caller, id string) (state.Image, error) {
	if err := checkID("ami", id); err != nil {
		return state.Image{}, err
	}
	all := h.state.Images(caller)
	i := slices.IndexFunc(all, func(img state.Image) bool { return img.ID == id })
	if i < 0 {
		return state.Image{}, noImage.with("the image %s does not exist", id)
	}
	return all[i], nil
}

func (h *Handler) registerImage(r request, p createImageParams) (state.Image, error) {
	if err := p.checkRegistration(); err != nil {
		return state.Image{}, err
	}
	want := state.ImageRequest{
		Name: p.ImageName, Description: p.Description, IDDigits: idDigits, DryRun: p.DryRun,
		Attributes: state.ImageAttributes{
			Architecture: or(p.Architecture, "x86_64"), Virtualization: "hvm", RootDevice: p.RootDeviceName,
			BootModes: p.BootModes, TPMMandatory: p.TPMMandatory, ProductCodes: p.ProductCodes,
		},
	}
	for _, m := range p.Mappings {
		mapping, err := h.mapping(r.caller, m)
		if err != nil {
			return state.Image{}, err
		}
		want.Mappings = append(want.Mappings, mapping)
	}
	return h.state.CreateImage(r.caller, want)
}

// checkRegistration refuses a registration that lacks something, or whose root
// device is not what the API takes.
func (p createImageParams) checkRegistration() error {
	root := slices.IndexFunc(p.Mappings, func(m imageMapping) bool { return m.DeviceName == p.RootDeviceName })
	switch {
	case p.SourceRegionName != "":
		return missing.with("the parameter SourceImageId is required with SourceRegionName")
	case p.ImageName == "":
		return missing.with("the parameter ImageName is required")
	case len(p.Mappings) == 0:
		return missing.with("the parameter BlockDeviceMappings or SourceImageId is required")
	case p.RootDeviceName == "":
		return missing.with("the parameter RootDeviceName is required")
	case p.RootDeviceName != rootDevice:
		return badValue.with("the value %q of the parameter RootDeviceName is not %s", p.RootDeviceName, rootDevice)
	case root < 0 || p.Mappings[root].Bsu == nil || p.Mappings[root].Bsu.SnapshotID == "":
		return badValue.with("BlockDeviceMappings has no snapshot for the root device %s", rootDevice)
	case p.Architecture != "" && p.Architecture != "x86_64" && p.Architecture != "i386":
		return badValue.with("the value %q of the parameter Architecture is neither i386 nor x86_64", p.Architecture)
	}
	for _, mode := range p.BootModes {
		if mode != "legacy" && mode != "uefi" {
			return badValue.with("the value %q of the parameter BootModes is neither legacy nor uefi", mode)
		}
	}
	return checkDevices(p.Mappings)
}

// checkDevices refuses devices that do not exist, or that are there twice.
func checkDevices(mappings []imageMapping) error {
	seen := map[string]bool{}
	for _, m := range mappings {
		name := diskName(m.DeviceName)
		switch {
		case !isDevice(m.DeviceName):
			return badValue.with("the value %q of the parameter BlockDeviceMappings.DeviceName is no device", m.DeviceName)
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

// mapping is a mapping as the state keeps it. The size of one that has a snapshot
// and no size is the snapshot's.
func (h *Handler) mapping(caller state.Caller, m imageMapping) (state.Mapping, error) {
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
		least := h.snapshotSize(caller, b.SnapshotID)
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
	return out, checkShape(shape{size: v.SizeGiB, iops: v.IOPS, kind: v.Type})
}

type readImagesParams struct {
	paging
	Filters filters `json:"Filters"`
}

// volumes are an image's mappings that make a volume.
func volumes(v imageView) []imageBsu {
	var out []imageBsu
	for _, m := range v.Mappings {
		if m.Bsu != nil {
			out = append(out, *m.Bsu)
		}
	}
	return out
}

var imageFilters = withTags(func(v imageView) []tag { return v.Tags }, map[string]property[imageView]{
	"ImageIds":            {ids, one(func(v imageView) string { return v.ImageID })},
	"ImageNames":          {wild, one(func(v imageView) string { return v.ImageName })},
	"Descriptions":        {wild, func(v imageView) []string { return []string{v.Description} }},
	"AccountIds":          {text, one(func(v imageView) string { return v.AccountID })},
	"AccountAliases":      {text, one(func(v imageView) string { return v.AccountAlias })},
	"Architectures":       {text, one(func(v imageView) string { return v.Architecture })},
	"BootModes":           {text, func(v imageView) []string { return v.BootModes }},
	"FileLocations":       {wild, one(func(v imageView) string { return v.FileLocation })},
	"Hypervisors":         {text, func(imageView) []string { return []string{"xen"} }},
	"ProductCodes":        {text, func(v imageView) []string { return v.ProductCodes }},
	"RootDeviceNames":     {text, one(func(v imageView) string { return v.RootDeviceName })},
	"RootDeviceTypes":     {text, func(imageView) []string { return []string{"bsu", "ebs"} }},
	"SecureBoot":          {truth, flag(func(v imageView) bool { return v.SecureBoot })},
	"States":              {text, one(func(v imageView) string { return v.State })},
	"TpmMandatory":        {truth, flag(func(v imageView) bool { return v.TPMMandatory })},
	"VirtualizationTypes": {text, one(func(v imageView) string { return or(v.virtualization, "hvm") })},
	"BlockDeviceMappingDeviceNames": {text, each(func(v imageView) []imageMapping { return v.Mappings },
		func(m imageMapping) string { return m.DeviceName })},
	"BlockDeviceMappingSnapshotIds": {ids, each(volumes, func(b imageBsu) string { return b.SnapshotID })},
	"BlockDeviceMappingVolumeTypes": {text, each(volumes, func(b imageBsu) string { return b.VolumeType })},
	"BlockDeviceMappingVolumeSizes": {number, each(volumes, func(b imageBsu) string {
		return strconv.FormatInt(deref(b.VolumeSize), 10)
	})},
	"BlockDeviceMappingDeleteOnVmDeletion": {truth, each(volumes, func(b imageBsu) string {
		return strconv.FormatBool(deref(b.DeleteOnVMDeletion))
	})},
	"PermissionsToLaunchAccountIds":       {text, func(v imageView) []string { return v.Permissions.AccountIDs }},
	"PermissionsToLaunchGlobalPermission": {truth, flag(func(v imageView) bool { return v.Permissions.GlobalPermission })},
})

func (h *Handler) readImages(r request, p readImagesParams) (answer, error) {
	views, err := selected(mapped(h.state.Images(r.caller), h.viewImage), p.Filters, imageFilters)
	if err != nil {
		return nil, err
	}
	return page(p.paging, "Images", views)
}

type updateImageParams struct {
	common
	ImageID      string            `json:"ImageId" need:"yes"`
	Description  *string           `json:"Description"`
	ProductCodes *[]string         `json:"ProductCodes"`
	Permissions  *permissionChange `json:"PermissionsToLaunch"`
}

// updateImage changes what it is given. To share an image is not to share its
// snapshots.
func (h *Handler) updateImage(r request, p updateImageParams) (answer, error) {
	if err := checkID("ami", p.ImageID); err != nil {
		return nil, err
	}
	if p.Description == nil && p.ProductCodes == nil && p.Permissions == nil {
		return nil, missing.with("the parameter Description, ProductCodes or PermissionsToLaunch is required")
	}
	change, err := deref(p.Permissions).change()
	if err != nil {
		return nil, err
	}
	img, err := h.state.UpdateImage(r.caller, p.ImageID, p.apply, p.DryRun)
	if err == nil && p.Permissions != nil {
		img, err = h.state.ShareImage(r.caller, p.ImageID, change, p.DryRun)
	}
	if err != nil {
		return nil, err
	}
	return answer{"Image": h.viewImage(img)}, nil
}

func (p updateImageParams) apply(img *state.Image) error {
	if p.Description != nil {
		img.Description = *p.Description
	}
	if p.ProductCodes != nil {
		img.ProductCodes = *p.ProductCodes
	}
	return nil
}

type deleteImageParams struct {
	common
	ImageID string `json:"ImageId" need:"yes"`
}

func (h *Handler) deleteImage(r request, p deleteImageParams) (answer, error) {
	if err := checkID("ami", p.ImageID); err != nil {
		return nil, err
	}
	return answer{}, h.state.DeleteImage(r.caller, p.ImageID, p.DryRun)
}
