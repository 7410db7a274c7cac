package ec2

import (
	"cmp"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

type registerImageInput struct {
	baseInput
	tagSpecifications
	Name           string    `query:"Name,required"`
	Description    string    `query:"Description"`
	Architecture   string    `query:"Architecture"`
	Virtualization string    `query:"VirtualizationType"`
	RootDevice     string    `query:"RootDeviceName"`
	BootMode       string    `query:"BootMode"`
	TPM            string    `query:"TpmSupport"`
	IMDS           string    `query:"ImdsSupport"`
	UEFIData       string    `query:"UefiData"`
	ENA            bool      `query:"EnaSupport"`
	SRIOV          string    `query:"SriovNetSupport"`
	KernelID       string    `query:"KernelId"`
	RamdiskID      string    `query:"RamdiskId"`
	Mappings       []mapping `query:"BlockDeviceMapping"`
}

// mapping is BlockDeviceMapping.N of a request.
type mapping struct {
	Device      string         `query:"DeviceName"`
	VirtualName string         `query:"VirtualName"`
	NoDevice    *string        `query:"NoDevice"` // with any value
	Volume      *mappingVolume `query:"Ebs"`
}

type mappingVolume struct {
	SnapshotID          snapshotID `query:"SnapshotId"`
	SizeGiB             int64      `query:"VolumeSize"`
	Type                string     `query:"VolumeType"`
	IOPS                int64      `query:"Iops"`
	Throughput          int64      `query:"Throughput"`
	DeleteOnTermination *bool      `query:"DeleteOnTermination"`
	Encrypted           *bool      `query:"Encrypted"`
	KMSKeyID            string     `query:"KmsKeyId"`
}

type imageIDOutput struct {
	baseResponse
	ImageID string `xml:"imageId"`
}

func (c *call) registerImage(in *registerImageInput) (*imageIDOutput, error) {
	tags, err := in.tagsOf("image")
	if err != nil {
		return nil, err
	}
	attributes, err := in.attributes()
	if err != nil {
		return nil, err
	}
	mappings, err := stateMappings(in.Mappings)
	for _, m := range in.Mappings {
		if v := m.Volume; err == nil && v != nil {
			err = c.checkLimits(v.Type, v.IOPS, v.SizeGiB, v.SnapshotID)
		}
	}
	if err != nil {
		return nil, err
	}
	image, err := c.st.CreateImage(c.caller, state.ImageRequest{
		Name: in.Name, Description: in.Description, Mappings: mappings, Attributes: attributes,
		Tags: tags["image"], IDDigits: idDigits, DryRun: in.DryRun,
	})
	return &imageIDOutput{ImageID: image.ID}, badMapping(err)
}

// attributes checks the enumerated parameters and fills in the defaults of RegisterImage: i386
// and paravirtual, as in 2009.
func (in *registerImageInput) attributes() (state.ImageAttributes, error) {
	for _, p := range []struct {
		name, value string
		known       []string
	}{
		{"architecture", in.Architecture, []string{"i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"}},
		{"virtualizationType", in.Virtualization, []string{"hvm", "paravirtual"}},
		{"bootMode", in.BootMode, []string{"legacy-bios", "uefi", "uefi-preferred"}},
		{"tpmSupport", in.TPM, []string{"v2.0"}},
		{"imdsSupport", in.IMDS, []string{"v2.0"}},
		{"sriovNetSupport", in.SRIOV, []string{"simple"}},
	} {
		if p.value != "" && !slices.Contains(p.known, p.value) {
			return state.ImageAttributes{}, query.Refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid.", p.value, p.name)
		}
	}
	if _, err := base64.StdEncoding.DecodeString(in.UEFIData); err != nil {
		return state.ImageAttributes{}, query.Refuse("InvalidParameterValue", "The UefiData is not base64: %v", err)
	}
	out := state.ImageAttributes{
		Architecture: cmp.Or(in.Architecture, "i386"), Virtualization: cmp.Or(in.Virtualization, "paravirtual"),
		RootDevice: in.RootDevice, BootMode: in.BootMode, TPM: in.TPM, IMDS: in.IMDS, UEFIData: in.UEFIData,
		ENA: in.ENA, SRIOV: in.SRIOV, KernelID: in.KernelID, RamdiskID: in.RamdiskID,
	}
	return out, checkFirmware(out)
}

func stateMappings(in []mapping) ([]state.Mapping, error) {
	out := make([]state.Mapping, len(in))
	for i, m := range in {
		out[i] = state.Mapping{Device: m.Device, VirtualName: m.VirtualName, NoDevice: m.NoDevice != nil}
		if m.Volume == nil {
			continue
		}
		v := m.Volume
		if v.KMSKeyID != "" && (v.Encrypted == nil || !*v.Encrypted) {
			return nil, query.Refuse("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
		}
		if v.SnapshotID != "" && v.Encrypted != nil {
			return nil, query.Refuse("InvalidBlockDeviceMapping", "the encrypted flag cannot be specified since device %s has a snapshot specified.", m.Device)
		}
		out[i].Volume = &state.MappedVolume{
			SnapshotID: string(v.SnapshotID), SizeGiB: v.SizeGiB, Type: v.Type,
			IOPS: v.IOPS, Throughput: v.Throughput,
			DeleteOnTermination: v.DeleteOnTermination == nil || *v.DeleteOnTermination,
			Encrypted:           v.Encrypted != nil && *v.Encrypted, KMSKeyID: v.KMSKeyID,
		}
	}
	return out, nil
}

// badMapping returns the error for an error of registering: a wrong value in a mapping has its
// own code.
func badMapping(err error) error {
	var refusal *state.Error
	if !errors.As(err, &refusal) || refusal.Kind != state.InvalidValue || refusal.Resource == "name" {
		return err
	}
	return query.Refuse("InvalidBlockDeviceMapping", "%s", refusal.Error())
}

// imageItem is an image in a response.
type imageItem struct {
	ImageID        string                `xml:"imageId"`
	Location       string                `xml:"imageLocation"`
	State          string                `xml:"imageState"`
	OwnerID        string                `xml:"imageOwnerId"`
	OwnerAlias     string                `xml:"imageOwnerAlias,omitempty"`
	Created        string                `xml:"creationDate"`
	Public         bool                  `xml:"isPublic"`
	Products       *set[productCodeItem] `xml:"productCodes"`
	Architecture   string                `xml:"architecture"`
	Type           string                `xml:"imageType"`
	KernelID       string                `xml:"kernelId,omitempty"`
	RamdiskID      string                `xml:"ramdiskId,omitempty"`
	Details        string                `xml:"platformDetails"`
	Usage          string                `xml:"usageOperation"`
	Name           string                `xml:"name"`
	Description    string                `xml:"description,omitempty"`
	RootDeviceType string                `xml:"rootDeviceType"`
	RootDevice     string                `xml:"rootDeviceName,omitempty"`
	Mappings       set[mappingItem]      `xml:"blockDeviceMapping"`
	Virtualization string                `xml:"virtualizationType"`
	Tags           *set[tagItem]         `xml:"tagSet"`
	Hypervisor     string                `xml:"hypervisor"`
	ENA            bool                  `xml:"enaSupport,omitempty"`
	SRIOV          string                `xml:"sriovNetSupport,omitempty"`
	BootMode       string                `xml:"bootMode,omitempty"`
	TPM            string                `xml:"tpmSupport,omitempty"`
	IMDS           string                `xml:"imdsSupport,omitempty"`
	Deprecated     string                `xml:"deprecationTime,omitempty"`
	LastLaunched   string                `xml:"lastLaunchedTime,omitempty"`
	Protection     string                `xml:"deregistrationProtection"`
	SourceImageID  string                `xml:"sourceImageId,omitempty"`
	SourceRegion   string                `xml:"sourceImageRegion,omitempty"`
	Allowed        *bool                 `xml:"imageAllowed"`
	Reason         *stateReason          `xml:"stateReason"`
}

type stateReason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type mappingItem struct {
	Device      string             `xml:"deviceName"`
	VirtualName string             `xml:"virtualName,omitempty"`
	NoDevice    *struct{}          `xml:"noDevice"`
	Volume      *mappingVolumeItem `xml:"ebs"`
}

type mappingVolumeItem struct {
	SnapshotID          string `xml:"snapshotId,omitempty"`
	SizeGiB             int64  `xml:"volumeSize"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
	Type                string `xml:"volumeType"`
	IOPS                int64  `xml:"iops,omitempty"`
	Throughput          int64  `xml:"throughput,omitempty"`
	Encrypted           bool   `xml:"encrypted"`
	KMSKeyID            string `xml:"kmsKeyId,omitempty"`
}

// The attributes that all images have in common.
const (
	machineImage   = "machine"
	rootDeviceType = "ebs"
	hypervisor     = "xen" // EC2 returns it for Nitro, too
	platform       = "Linux/UNIX"
	usageOperation = "RunInstances"
)

func (c *call) describeImage(i state.Image) imageItem {
	item := imageItem{
		ImageID: i.ID, Location: location(i), State: string(i.State), OwnerID: i.Account,
		OwnerAlias: c.aliasOf(i.Account), Created: stamp(i.Created), Public: i.Launch.Public,
		Architecture: i.Architecture, Type: machineImage, KernelID: i.KernelID, RamdiskID: i.RamdiskID,
		Details: platform, Usage: usageOperation, Name: i.Name, Description: i.Description,
		RootDeviceType: rootDeviceType, RootDevice: i.RootDevice, Mappings: convert(i.Mappings, describeMapping),
		Virtualization: i.Virtualization, Tags: tagSet(i.Tags), Hypervisor: hypervisor,
		ENA: i.ENA, SRIOV: i.SRIOV, BootMode: i.BootMode, TPM: i.TPM, IMDS: i.IMDS,
		Deprecated: stampOrNone(i.Deprecated), LastLaunched: stampOrNone(i.LastLaunched), Protection: string(i.Protection),
		SourceImageID: i.SourceImageID, SourceRegion: i.SourceRegion, Allowed: c.imageAllowed(i),
	}
	if i.State == state.ImagePending && i.SourceImageID != "" {
		hideSnapshots(item.Mappings.Items)
	}
	if len(i.ProductCodes) > 0 {
		item.Products = productCodeSet(i.ProductCodes)
	}
	if i.Reason != "" {
		item.Reason = &stateReason{Code: "Client.InternalError", Message: i.Reason}
	}
	return item
}

// hideSnapshots removes the snapshots from the block devices of an image that is being copied:
// EC2 does not return them before the copy is complete. Source: github.com/lstein/LibVM-EC2-Perl
// pull 17.
func hideSnapshots(mappings []mappingItem) {
	for _, m := range mappings {
		if m.Volume != nil {
			m.Volume.SnapshotID = ""
		}
	}
}

// location returns an image's manifest path: the owner and the name.
func location(i state.Image) string { return i.Account + "/" + i.Name }

func describeMapping(m state.Mapping) mappingItem {
	item := mappingItem{Device: m.Device, VirtualName: m.VirtualName}
	if m.NoDevice {
		item.NoDevice = &struct{}{}
	}
	if v := m.Volume; v != nil {
		item.Volume = &mappingVolumeItem{
			SnapshotID: v.SnapshotID, SizeGiB: v.SizeGiB, DeleteOnTermination: v.DeleteOnTermination,
			Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID,
		}
	}
	return item
}

func imageMappings(i state.Image) []state.Mapping { return i.Mappings }

// ofVolume returns an attribute of an image's mapped volumes.
func ofVolume(value func(*state.MappedVolume) string) func(state.Image) []string {
	return each(imageMappings, func(m state.Mapping) string {
		if m.Volume == nil {
			return ""
		}
		return value(m.Volume)
	})
}

func (c *call) imageFilters() attributes[state.Image] {
	return attributes[state.Image]{
		"architecture": one(func(i state.Image) string { return i.Architecture }),
		"block-device-mapping.delete-on-termination": ofVolume(func(v *state.MappedVolume) string { return strconv.FormatBool(v.DeleteOnTermination) }),
		"block-device-mapping.device-name":           each(imageMappings, func(m state.Mapping) string { return m.Device }),
		"block-device-mapping.encrypted":             ofVolume(func(v *state.MappedVolume) string { return strconv.FormatBool(v.Encrypted) }),
		"block-device-mapping.snapshot-id":           ofVolume(func(v *state.MappedVolume) string { return v.SnapshotID }),
		"block-device-mapping.volume-size":           ofVolume(func(v *state.MappedVolume) string { return decimal(v.SizeGiB) }),
		"block-device-mapping.volume-type":           ofVolume(func(v *state.MappedVolume) string { return v.Type }),
		"boot-mode":                                  one(func(i state.Image) string { return i.BootMode }),
		"creation-date":                              one(func(i state.Image) string { return stamp(i.Created) }),
		"description":                                one(func(i state.Image) string { return i.Description }),
		"ena-support":                                one(func(i state.Image) string { return strconv.FormatBool(i.ENA) }),
		"hypervisor":                                 one(func(state.Image) string { return hypervisor }),
		"image-id":                                   one(func(i state.Image) string { return i.ID }),
		"image-type":                                 one(func(state.Image) string { return machineImage }),
		"is-public":                                  one(func(i state.Image) string { return strconv.FormatBool(i.Launch.Public) }),
		"kernel-id":                                  one(func(i state.Image) string { return i.KernelID }),
		"manifest-location":                          one(location),
		"name":                                       one(func(i state.Image) string { return i.Name }),
		"owner-alias":                                one(func(i state.Image) string { return c.aliasOf(i.Account) }),
		"owner-id":                                   one(func(i state.Image) string { return i.Account }),
		"product-code":                               func(i state.Image) []string { return i.ProductCodes },
		"ramdisk-id":                                 one(func(i state.Image) string { return i.RamdiskID }),
		"root-device-name":                           one(func(i state.Image) string { return i.RootDevice }),
		"root-device-type":                           one(func(state.Image) string { return rootDeviceType }),
		"source-image-id":                            one(func(i state.Image) string { return i.SourceImageID }),
		"source-image-region":                        one(func(i state.Image) string { return i.SourceRegion }),
		"sriov-net-support":                          one(func(i state.Image) string { return i.SRIOV }),
		"state":                                      one(func(i state.Image) string { return string(i.State) }),
		"virtualization-type":                        one(func(i state.Image) string { return i.Virtualization }),
		// Only Windows has a platform name, and no image here runs Windows.
		"platform": func(state.Image) []string { return nil },
	}.withTags(func(i state.Image) map[string]string { return i.Tags })
}

type describeImagesInput struct {
	baseInput
	paging
	IDs               []imageID `query:"ImageId"`
	Owners            []string  `query:"Owner"`
	ExecutableBy      []string  `query:"ExecutableBy"`
	IncludeDeprecated bool      `query:"IncludeDeprecated"`
	IncludeDisabled   bool      `query:"IncludeDisabled"`
	Filters           []filter  `query:"Filter"`
}

type describeImagesOutput struct {
	baseResponse
	Images    set[imageItem] `xml:"imagesSet"`
	NextToken string         `xml:"nextToken,omitempty"`
}

func (c *call) describeImages(in *describeImagesInput) (*describeImagesOutput, error) {
	if err := in.checkPage(1, len(in.IDs)); err != nil {
		return nil, err
	}
	images, err := c.images(in)
	if err != nil {
		return nil, err
	}
	if images, err = pick(in.Filters, c.imageFilters(), images); err != nil {
		return nil, err
	}
	shown, next, err := page(c, in.paging, images, func(i state.Image) string { return sortKey(i.Created, i.ID) })
	return &describeImagesOutput{Images: convert(shown, c.describeImage), NextToken: next}, err
}

// images returns the images that the caller can see and the request selects by ID, owner, launch
// permission, deprecation and disabled state.
func (c *call) images(in *describeImagesInput) ([]state.Image, error) {
	found, err := c.namedImages(in.IDs)
	if err != nil {
		return nil, err
	}
	owners, err := c.owners(in.Owners)
	if err != nil {
		return nil, err
	}
	users, err := c.users(in.ExecutableBy)
	if err != nil {
		return nil, err
	}
	now := c.st.Now()
	return slices.DeleteFunc(found, func(i state.Image) bool {
		return len(in.Owners) > 0 && !slices.Contains(owners, i.Account) ||
			len(in.ExecutableBy) > 0 && !mayLaunch(users, i.Launch) ||
			i.Disabled && !in.IncludeDisabled ||
			len(in.IDs) == 0 && !in.IncludeDeprecated && isDeprecated(i, now) && i.Account != c.caller.Account
	}), nil
}

// mayLaunch reports whether an image is shared with one of these users by name; all stands for
// public images. The owner's own right to launch does not count.
func mayLaunch(users []string, granted state.Permissions) bool {
	return mayUse(users, granted, "")
}

// isDeprecated reports whether an image is hidden unless the caller owns it, names it or asks for
// deprecated images.
func isDeprecated(i state.Image, now time.Time) bool {
	return !i.Deprecated.IsZero() && !i.Deprecated.After(now)
}

// namedImages returns the images with these IDs, or all that the caller can see.
func (c *call) namedImages(ids []imageID) ([]state.Image, error) {
	found, missing := withIDs(c.withoutHidden(c.st.Images(c.caller)), plain(ids), func(i state.Image) string { return i.ID })
	switch len(missing) {
	case 0:
		return found, nil
	case 1:
		return nil, query.Refuse("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", missing[0])
	default:
		return nil, query.Refuse("InvalidAMIID.NotFound", "The image ids '[%s]' do not exist", strings.Join(missing, ", "))
	}
}

type copyImageInput struct {
	baseInput
	tagSpecifications
	SourceID     imageID `query:"SourceImageId,required"`
	SourceRegion string  `query:"SourceRegion,required"`
	Name         string  `query:"Name,required"`
	Description  string  `query:"Description"`
	Encrypted    bool    `query:"Encrypted"`
	KMSKeyID     string  `query:"KmsKeyId"`
	CopyTags     bool    `query:"CopyImageTags"`
	Token        string  `query:"ClientToken"`
	Minutes      *int64  `query:"SnapshotCopyCompletionDurationMinutes"`
}

func (c *call) copyImage(in *copyImageInput) (*imageIDOutput, error) {
	tags, err := in.tagsOf("image", "snapshot")
	if err == nil {
		err = checkMinutes("SnapshotCopyCompletionDurationMinutes", in.Minutes)
	}
	if err != nil {
		return nil, err
	}
	image, err := c.st.CopyImage(c.caller, state.ImageCopyRequest{
		SourceID: string(in.SourceID), SourceRegion: in.SourceRegion, Name: in.Name, Description: in.Description,
		Encrypted: in.Encrypted, KMSKeyID: in.KMSKeyID, Defaults: true, CopyTags: in.CopyTags,
		Tags: tags["image"], SnapshotTags: tags["snapshot"], Readable: true,
		Token: in.Token, IDDigits: idDigits, DryRun: in.DryRun,
	})
	return &imageIDOutput{ImageID: image.ID}, err
}

// checkMinutes returns an error if the duration of a copy is not a multiple of 15 minutes up to
// two days. The duration has no effect here.
// https://docs.aws.amazon.com/ebs/latest/userguide/time-based-copies.html
func checkMinutes(name string, minutes *int64) error {
	if minutes != nil && (*minutes < 15 || *minutes > 2880 || *minutes%15 != 0) {
		return query.Refuse("InvalidParameterValue", "Value (%d) for parameter %s is invalid. It must be a multiple of 15 from 15 to 2880.", *minutes, name)
	}
	return nil
}

// snapshotsOf returns the snapshots of an image's volumes.
func snapshotsOf(i state.Image) []string {
	var ids []string
	for _, m := range i.Mappings {
		if m.Volume != nil {
			ids = appendGiven(ids, m.Volume.SnapshotID)
		}
	}
	return ids
}
