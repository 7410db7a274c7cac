package ec2

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

const (
	// idDigits is the number of digits in EC2's IDs since 2016.
	idDigits = 17
	// defaultVolumeType is the type of a volume that is requested without one.
	defaultVolumeType = "gp2"
)

type createVolumeInput struct {
	baseInput
	tagSpecifications
	Zone       string     `query:"AvailabilityZone,required"`
	SizeGiB    int64      `query:"Size"`
	SnapshotID snapshotID `query:"SnapshotId"`
	Type       string     `query:"VolumeType"`
	IOPS       int64      `query:"Iops"`
	Throughput int64      `query:"Throughput"`
	Encrypted  bool       `query:"Encrypted"`
	KMSKeyID   string     `query:"KmsKeyId"`
	Token      string     `query:"ClientToken"`
	Outpost    string     `query:"OutpostArn"`
}

// volumeItem is a volume in a response.
type volumeItem struct {
	VolumeID     string              `xml:"volumeId"`
	SizeGiB      int64               `xml:"size"`
	SnapshotID   string              `xml:"snapshotId"`
	Zone         string              `xml:"availabilityZone"`
	ZoneID       string              `xml:"availabilityZoneId"`
	State        string              `xml:"status"`
	Created      string              `xml:"createTime"`
	Attachments  set[attachmentItem] `xml:"attachmentSet"`
	Tags         *set[tagItem]       `xml:"tagSet"`
	Type         string              `xml:"volumeType"`
	IOPS         int64               `xml:"iops,omitempty"`
	Throughput   int64               `xml:"throughput,omitempty"`
	Encrypted    bool                `xml:"encrypted"`
	KMSKeyID     string              `xml:"kmsKeyId,omitempty"`
	MultiAttach  bool                `xml:"multiAttachEnabled"`
	FastRestored bool                `xml:"fastRestored"`
	Outpost      string              `xml:"outpostArn,omitempty"`
}

type attachmentItem struct {
	VolumeID            string `xml:"volumeId"`
	InstanceID          string `xml:"instanceId"`
	Device              string `xml:"device"`
	State               string `xml:"status"`
	Attached            string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

type volumeOutput struct {
	baseResponse
	volumeItem
}

func (c *call) createVolume(in *createVolumeInput) (*volumeOutput, error) {
	tags, err := in.tagsOf("volume")
	if err != nil {
		return nil, err
	}
	if err := c.checkLimits(in.Type, in.IOPS, in.SizeGiB, in.SnapshotID); err != nil {
		return nil, err
	}
	v, err := c.st.CreateVolume(c.caller, state.VolumeRequest{
		Zone: in.Zone, SnapshotID: string(in.SnapshotID), Type: cmp.Or(in.Type, defaultVolumeType),
		SizeGiB: in.SizeGiB, IOPS: in.IOPS, Throughput: in.Throughput,
		Encrypted: in.Encrypted, KMSKeyID: in.KMSKeyID, Outpost: in.Outpost, Defaults: true,
		Tags: tags["volume"], Token: in.Token, IDDigits: idDigits, DryRun: in.DryRun,
	})
	return &volumeOutput{volumeItem: describeVolume(v)}, err
}

// EC2's limits that are lower than Outscale's, which the state allows: the largest IOPS of an io1
// volume for each GiB (EBS User Guide), and the largest size of a standard volume (API reference of
// CreateVolume).
const (
	io1PerGiB      = 50
	standardMaxGiB = 1024
)

// checkLimits returns an error if the IOPS are too high for an io1 volume of this size, or a
// standard volume is too large. Without a size, it is that of the snapshot.
func (c *call) checkLimits(kind string, iops, size int64, snapshot snapshotID) error {
	if found, _ := withIDs(c.st.Snapshots(c.caller), []string{string(snapshot)}, func(s state.Snapshot) string { return s.ID }); size == 0 && len(found) == 1 {
		size = found[0].SizeGiB
	}
	switch {
	case kind == "io1" && size > 0 && iops > max(100, io1PerGiB*size):
		return query.Refuse("InvalidParameterValue", "Iops to volume size ratio of %f is too high; maximum is %d", float64(iops)/float64(size), io1PerGiB)
	case kind == "standard" && size > standardMaxGiB:
		return query.Refuse("InvalidParameterValue", "Volume of %dGiB is too large for volume type standard; maximum is %dGiB.", size, standardMaxGiB)
	}
	return nil
}

func describeVolume(v state.Volume) volumeItem {
	return volumeItem{
		VolumeID: v.ID, SizeGiB: v.SizeGiB, SnapshotID: v.SnapshotID,
		Zone: v.Zone, ZoneID: state.ZoneID(v.Zone), State: string(v.State), Created: stamp(v.Created),
		Attachments: convert(attachments(v), describeAttachment), Tags: tagSet(v.Tags),
		Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput,
		Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID, Outpost: v.Outpost,
	}
}

// attachments returns the attachments of a volume: none or one.
func attachments(v state.Volume) []state.Attachment {
	if v.Attachment == nil {
		return nil
	}
	return []state.Attachment{*v.Attachment}
}

func describeAttachment(a state.Attachment) attachmentItem {
	return attachmentItem{
		VolumeID: a.VolumeID, InstanceID: a.VMID, Device: a.Device, State: string(a.State),
		Attached: stamp(a.Attached), DeleteOnTermination: a.DeleteOnTermination,
	}
}

var volumeFilters = attributes[state.Volume]{
	"attachment.attach-time":           each(attachments, func(a state.Attachment) string { return stamp(a.Attached) }),
	"attachment.delete-on-termination": each(attachments, func(a state.Attachment) string { return strconv.FormatBool(a.DeleteOnTermination) }),
	"attachment.device":                each(attachments, func(a state.Attachment) string { return a.Device }),
	"attachment.instance-id":           each(attachments, func(a state.Attachment) string { return a.VMID }),
	"attachment.status":                each(attachments, func(a state.Attachment) string { return string(a.State) }),
	"availability-zone":                one(func(v state.Volume) string { return v.Zone }),
	"availability-zone-id":             one(func(v state.Volume) string { return state.ZoneID(v.Zone) }),
	"create-time":                      one(func(v state.Volume) string { return stamp(v.Created) }),
	"encrypted":                        one(func(v state.Volume) string { return strconv.FormatBool(v.Encrypted) }),
	"size":                             one(func(v state.Volume) string { return decimal(v.SizeGiB) }),
	"snapshot-id":                      one(func(v state.Volume) string { return v.SnapshotID }),
	"status":                           one(func(v state.Volume) string { return string(v.State) }),
	"volume-id":                        one(func(v state.Volume) string { return v.ID }),
	"volume-type":                      one(func(v state.Volume) string { return v.Type }),
}.withTags(func(v state.Volume) map[string]string { return v.Tags })

type describeVolumesInput struct {
	baseInput
	paging
	IDs     []volumeID `query:"VolumeId"`
	Filters []filter   `query:"Filter"`
}

type describeVolumesOutput struct {
	baseResponse
	Volumes   set[volumeItem] `xml:"volumeSet"`
	NextToken string          `xml:"nextToken,omitempty"`
}

func (c *call) describeVolumes(in *describeVolumesInput) (*describeVolumesOutput, error) {
	if err := in.checkPage(5, len(in.IDs)); err != nil {
		return nil, err
	}
	volumes, err := c.volumes(in.IDs)
	if err != nil {
		return nil, err
	}
	if volumes, err = pick(in.Filters, volumeFilters, volumes); err != nil {
		return nil, err
	}
	shown, next, err := page(c, in.paging, volumes, func(v state.Volume) string { return sortKey(v.Created, v.ID) })
	return &describeVolumesOutput{Volumes: convert(shown, describeVolume), NextToken: next}, err
}

// volumes returns the caller's volumes with these IDs, or all. Like EC2, it hides deleted
// volumes.
func (c *call) volumes(ids []volumeID) ([]state.Volume, error) {
	all := slices.DeleteFunc(c.st.Volumes(c.caller), func(v state.Volume) bool { return v.State == state.VolumeDeleting })
	found, missing := withIDs(all, plain(ids), func(v state.Volume) string { return v.ID })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidVolume.NotFound", "The volume '%s' does not exist.", missing[0])
	}
	return found, nil
}

// withIDs returns the resources with these IDs, and the IDs without a resource. Without IDs, it
// returns all resources. id returns the ID of a resource.
func withIDs[T any](all []T, ids []string, id func(T) string) (found []T, missing []string) {
	if len(ids) == 0 {
		return all, nil
	}
	for _, want := range ids {
		if !slices.ContainsFunc(all, func(resource T) bool { return id(resource) == want }) {
			missing = append(missing, want)
		}
	}
	return slices.DeleteFunc(all, func(resource T) bool { return !slices.Contains(ids, id(resource)) }), missing
}

type attachVolumeInput struct {
	baseInput
	VolumeID   volumeID   `query:"VolumeId,required"`
	InstanceID instanceID `query:"InstanceId,required"`
	Device     string     `query:"Device,required"`
}

type attachmentOutput struct {
	baseResponse
	attachmentItem
}

// deviceNames matches the device names of volumes: those of disks and of the root device. Names
// of partitions are for paravirtual instances, and no host is one.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/device_naming.html
var deviceNames = regexp.MustCompile(`^/dev/((sd|xvd)[a-z]{1,2}|sda1)$`)

func (c *call) attachVolume(in *attachVolumeInput) (*attachmentOutput, error) {
	if !deviceNames.MatchString(in.Device) {
		return nil, query.Refuse("InvalidParameterValue", "Value (%[1]s) for parameter device is invalid. %[1]s is not a valid EBS device name.", in.Device)
	}
	a, err := c.st.AttachVolume(c.caller, state.AttachRequest{
		VolumeID: string(in.VolumeID), VMID: string(in.InstanceID), Device: in.Device, RefuseModifying: true, DryRun: in.DryRun,
	})
	return &attachmentOutput{attachmentItem: describeAttachment(a)}, err
}

type detachVolumeInput struct {
	baseInput
	VolumeID   volumeID   `query:"VolumeId,required"`
	InstanceID instanceID `query:"InstanceId"`
	Device     string     `query:"Device"`
	Force      bool       `query:"Force"`
}

func (c *call) detachVolume(in *detachVolumeInput) (*attachmentOutput, error) {
	a, err := c.st.DetachVolume(c.caller, state.DetachRequest{
		VolumeID: string(in.VolumeID), VMID: string(in.InstanceID), Device: in.Device,
		Force: in.Force, DryRun: in.DryRun,
	})
	return &attachmentOutput{attachmentItem: describeAttachment(a)}, err
}

type deleteVolumeInput struct {
	baseInput
	VolumeID volumeID `query:"VolumeId,required"`
}

func (c *call) deleteVolume(in *deleteVolumeInput) (*done, error) {
	return succeeded(c.st.DeleteVolume(c.caller, string(in.VolumeID), in.DryRun))
}

type modifyVolumeInput struct {
	baseInput
	VolumeID   volumeID `query:"VolumeId,required"`
	SizeGiB    int64    `query:"Size"`
	Type       string   `query:"VolumeType"`
	IOPS       int64    `query:"Iops"`
	Throughput int64    `query:"Throughput"`
}

type modifyVolumeOutput struct {
	baseResponse
	Modification modificationItem `xml:"volumeModification"`
}

type modificationItem struct {
	VolumeID       string `xml:"volumeId"`
	State          string `xml:"modificationState"`
	FromSize       int64  `xml:"originalSize"`
	FromIOPS       int64  `xml:"originalIops,omitempty"`
	FromThroughput int64  `xml:"originalThroughput,omitempty"`
	FromType       string `xml:"originalVolumeType"`
	ToSize         int64  `xml:"targetSize"`
	ToIOPS         int64  `xml:"targetIops,omitempty"`
	ToThroughput   int64  `xml:"targetThroughput,omitempty"`
	ToType         string `xml:"targetVolumeType"`
	Progress       int64  `xml:"progress"`
	Started        string `xml:"startTime"`
	Ended          string `xml:"endTime,omitempty"`
}

func (c *call) modifyVolume(in *modifyVolumeInput) (*modifyVolumeOutput, error) {
	if err := c.checkModification(in); err != nil {
		return nil, err
	}
	v, err := c.st.ModifyVolume(c.caller, string(in.VolumeID), state.VolumeChange{
		SizeGiB: in.SizeGiB, Type: in.Type, IOPS: in.IOPS, Throughput: in.Throughput, LimitRate: true, DryRun: in.DryRun,
	})
	if err != nil {
		return nil, err
	}
	return &modifyVolumeOutput{Modification: describeModification(v)}, nil
}

// checkModification returns an error if a volume would exceed a limit of EC2. The state refuses a
// missing volume.
func (c *call) checkModification(in *modifyVolumeInput) error {
	found, _ := withIDs(c.st.Volumes(c.caller), []string{string(in.VolumeID)}, func(v state.Volume) string { return v.ID })
	if len(found) == 0 {
		return nil
	}
	return c.checkLimits(cmp.Or(in.Type, found[0].Type), in.IOPS, cmp.Or(in.SizeGiB, found[0].SizeGiB), "")
}

// describeModification returns the last change of a volume, the zero value if there was none.
func describeModification(v state.Volume) modificationItem {
	m := v.Modification
	if m == nil {
		return modificationItem{VolumeID: v.ID}
	}
	return modificationItem{
		VolumeID: v.ID, State: m.State, Progress: m.Progress,
		FromSize: m.FromSize, FromIOPS: m.FromIOPS, FromThroughput: m.FromThroughput, FromType: m.FromType,
		ToSize: m.ToSize, ToIOPS: m.ToIOPS, ToThroughput: m.ToThroughput, ToType: m.ToType,
		Started: stamp(m.Started), Ended: stampOrNone(m.Ended),
	}
}

// modificationFilters are the filters for volumes that have a modification.
var modificationFilters = attributes[state.Volume]{
	"modification-state":   one(func(v state.Volume) string { return v.Modification.State }),
	"original-iops":        one(func(v state.Volume) string { return decimalOrNone(v.Modification.FromIOPS) }),
	"original-size":        one(func(v state.Volume) string { return decimal(v.Modification.FromSize) }),
	"original-volume-type": one(func(v state.Volume) string { return v.Modification.FromType }),
	"start-time":           one(func(v state.Volume) string { return stamp(v.Modification.Started) }),
	"target-iops":          one(func(v state.Volume) string { return decimalOrNone(v.Modification.ToIOPS) }),
	"target-size":          one(func(v state.Volume) string { return decimal(v.Modification.ToSize) }),
	"target-volume-type":   one(func(v state.Volume) string { return v.Modification.ToType }),
	"volume-id":            one(func(v state.Volume) string { return v.ID }),
}

type describeModificationsInput struct {
	baseInput
	paging
	IDs     []volumeID `query:"VolumeId"`
	Filters []filter   `query:"Filter"`
}

type describeModificationsOutput struct {
	baseResponse
	Modifications set[modificationItem] `xml:"volumeModificationSet"`
	NextToken     string                `xml:"nextToken,omitempty"`
}

func (c *call) describeModifications(in *describeModificationsInput) (*describeModificationsOutput, error) {
	if err := in.checkPage(1, len(in.IDs)); err != nil {
		return nil, err
	}
	volumes, err := c.modified(in.IDs)
	if err != nil {
		return nil, err
	}
	if volumes, err = pick(in.Filters, modificationFilters, volumes); err != nil {
		return nil, err
	}
	shown, next, err := page(c, in.paging, volumes, func(v state.Volume) string { return sortKey(v.Created, v.ID) })
	return &describeModificationsOutput{Modifications: convert(shown, describeModification), NextToken: next}, err
}

// modified returns the volumes that have a modification. Naming another one is an error with its
// own code.
func (c *call) modified(ids []volumeID) ([]state.Volume, error) {
	volumes, err := c.volumes(ids)
	if err != nil {
		return nil, err
	}
	var never []string
	volumes = slices.DeleteFunc(volumes, func(v state.Volume) bool {
		if v.Modification == nil {
			never = append(never, v.ID)
		}
		return v.Modification == nil
	})
	if len(ids) > 0 && len(never) > 0 {
		return nil, query.Refuse("InvalidVolumeModification.NotFound", "Modification for volume '%s' does not exist.", strings.Join(never, "', '"))
	}
	return volumes, nil
}
