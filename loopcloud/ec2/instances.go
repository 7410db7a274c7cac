package ec2

import (
	"strconv"
	"strings"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/query"
	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

type runInstancesInput struct {
	baseInput
	tagSpecifications
	ImageID   imageID   `query:"ImageId,required"`
	MinCount  int64     `query:"MinCount,required"`
	MaxCount  int64     `query:"MaxCount,required"`
	Type      string    `query:"InstanceType"`
	Placement placement `query:"Placement"`
	Token     string    `query:"ClientToken"`
}

type placement struct {
	Zone string `query:"AvailabilityZone"`
}

// maxInstances is the largest number of instances in a request.
const maxInstances = 100

// reservation holds the instances of one RunInstances.
type reservation struct {
	ID        string            `xml:"reservationId"`
	OwnerID   string            `xml:"ownerId"`
	Groups    set[struct{}]     `xml:"groupSet"`
	Instances set[instanceItem] `xml:"instancesSet"`
}

// instanceItem is an instance in a response.
type instanceItem struct {
	InstanceID     string               `xml:"instanceId"`
	ImageID        string               `xml:"imageId,omitempty"`
	State          instanceState        `xml:"instanceState"`
	PrivateDNS     string               `xml:"privateDnsName"`
	Type           string               `xml:"instanceType"`
	Launched       string               `xml:"launchTime"`
	Placement      placementItem        `xml:"placement"`
	PrivateIP      string               `xml:"privateIpAddress"`
	Architecture   string               `xml:"architecture"`
	RootDeviceType string               `xml:"rootDeviceType"`
	RootDevice     string               `xml:"rootDeviceName,omitempty"`
	Devices        set[instanceMapping] `xml:"blockDeviceMapping"`
	Virtualization string               `xml:"virtualizationType"`
	Tags           *set[tagItem]        `xml:"tagSet"`
	Hypervisor     string               `xml:"hypervisor"`
	Details        string               `xml:"platformDetails"`
	Usage          string               `xml:"usageOperation"`
	Outpost        string               `xml:"outpostArn,omitempty"`
	Metadata       metadataItem         `xml:"metadataOptions"`
}

type instanceState struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

type placementItem struct {
	Zone    string `xml:"availabilityZone"`
	ZoneID  string `xml:"availabilityZoneId"`
	Tenancy string `xml:"tenancy"`
}

type instanceMapping struct {
	Device string         `xml:"deviceName"`
	Volume instanceVolume `xml:"ebs"`
}

type instanceVolume struct {
	VolumeID            string `xml:"volumeId"`
	State               string `xml:"status"`
	Attached            string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

// stateCodes are the low bytes of EC2's state codes.
var stateCodes = map[state.VMState]int{
	state.VMPending: 0, state.VMRunning: 16, state.VMShuttingDown: 32, state.VMTerminated: 48,
}

func describeState(s state.VMState) instanceState {
	return instanceState{Code: stateCodes[s], Name: string(s)}
}

type runInstancesOutput struct {
	baseResponse
	reservation
}

func (c *call) runInstances(in *runInstancesInput) (*runInstancesOutput, error) {
	if in.MinCount < 1 || in.MaxCount < in.MinCount || in.MaxCount > maxInstances {
		return nil, query.Refuse("InvalidParameterValue", "Invalid value '%d' for maxCount. It must be from minCount to %d, and minCount 1 or more", in.MaxCount, maxInstances)
	}
	tags, err := in.tagsOf("instance", "volume")
	if err != nil {
		return nil, err
	}
	vms, err := c.st.RunVMs(c.caller, state.VMRequest{
		ImageID: string(in.ImageID), Type: in.Type, Zone: in.Placement.Zone, Count: int(in.MaxCount),
		Tags: tags["instance"], VolumeTags: tags["volume"], Token: in.Token, IDDigits: idDigits, DryRun: in.DryRun,
	})
	if err != nil {
		return nil, err
	}
	out := &runInstancesOutput{reservation: c.reservation(instance{VM: vms[0]})}
	out.Instances = convert(vms, func(vm state.VM) instanceItem { return describeInstance(instance{VM: vm}) })
	return out, nil
}

// instance is a VM with its volumes.
type instance struct {
	state.VM
	Attachments []state.Attachment
}

func (i instance) attachments() []state.Attachment { return i.Attachments }

// reservationID returns an ID that follows from the instance's ID: the state does not store
// reservations.
func (i instance) reservationID() string { return "r-" + strings.TrimPrefix(i.ID, "i-") }

func (c *call) reservation(i instance) reservation {
	return reservation{
		ID: i.reservationID(), OwnerID: i.Account,
		Instances: set[instanceItem]{Items: []instanceItem{describeInstance(i)}},
	}
}

func describeInstance(i instance) instanceItem {
	return instanceItem{
		InstanceID: i.ID, ImageID: i.ImageID, State: describeState(i.State), PrivateDNS: i.PrivateDNS(),
		Type: i.Type, Launched: stamp(i.Launched), PrivateIP: i.PrivateIP().String(),
		Placement:    placementItem{Zone: i.Zone, ZoneID: state.ZoneID(i.Zone), Tenancy: "default"},
		Architecture: i.Architecture, RootDeviceType: rootDeviceType, RootDevice: i.RootDevice,
		Devices: convert(i.Attachments, describeDevice), Virtualization: i.Virtualization,
		Tags: tagSet(i.Tags), Hypervisor: hypervisor, Details: platform, Usage: usageOperation,
		Outpost: i.Outpost, Metadata: describeMetadata(i.Metadata),
	}
}

func describeDevice(a state.Attachment) instanceMapping {
	return instanceMapping{Device: a.Device, Volume: instanceVolume{
		VolumeID: a.VolumeID, State: string(a.State), Attached: stamp(a.Attached), DeleteOnTermination: a.DeleteOnTermination,
	}}
}

var instanceFilters = attributes[instance]{
	"architecture":                               one(func(i instance) string { return i.Architecture }),
	"availability-zone":                          one(func(i instance) string { return i.Zone }),
	"availability-zone-id":                       one(func(i instance) string { return state.ZoneID(i.Zone) }),
	"block-device-mapping.attach-time":           each(instance.attachments, func(a state.Attachment) string { return stamp(a.Attached) }),
	"block-device-mapping.delete-on-termination": each(instance.attachments, func(a state.Attachment) string { return strconv.FormatBool(a.DeleteOnTermination) }),
	"block-device-mapping.device-name":           each(instance.attachments, func(a state.Attachment) string { return a.Device }),
	"block-device-mapping.status":                each(instance.attachments, func(a state.Attachment) string { return string(a.State) }),
	"block-device-mapping.volume-id":             each(instance.attachments, func(a state.Attachment) string { return a.VolumeID }),
	"hypervisor":                                 one(func(instance) string { return hypervisor }),
	"image-id":                                   one(func(i instance) string { return i.ImageID }),
	"instance-id":                                one(func(i instance) string { return i.ID }),
	"instance-state-code":                        one(func(i instance) string { return strconv.Itoa(stateCodes[i.State]) }),
	"instance-state-name":                        one(func(i instance) string { return string(i.State) }),
	"metadata-options.http-endpoint":             one(func(i instance) string { return describeMetadata(i.Metadata).Endpoint }),
	"metadata-options.http-tokens":               one(func(i instance) string { return describeMetadata(i.Metadata).Tokens }),
	"outpost-arn":                                one(func(i instance) string { return i.Outpost }),
	"instance-type":                              one(func(i instance) string { return i.Type }),
	"launch-time":                                one(func(i instance) string { return stamp(i.Launched) }),
	"owner-id":                                   one(func(i instance) string { return i.Account }),
	"platform-details":                           one(func(instance) string { return platform }),
	"private-dns-name":                           one(func(i instance) string { return i.PrivateDNS() }),
	"private-ip-address":                         one(func(i instance) string { return i.PrivateIP().String() }),
	"reservation-id":                             one(instance.reservationID),
	"root-device-name":                           one(func(i instance) string { return i.RootDevice }),
	"root-device-type":                           one(func(instance) string { return rootDeviceType }),
	"virtualization-type":                        one(func(i instance) string { return i.Virtualization }),
}.withTags(func(i instance) map[string]string { return i.Tags })

type describeInstancesInput struct {
	baseInput
	paging
	IDs     []instanceID `query:"InstanceId"`
	Filters []filter     `query:"Filter"`
}

type describeInstancesOutput struct {
	baseResponse
	Reservations set[reservation] `xml:"reservationSet"`
	NextToken    string           `xml:"nextToken,omitempty"`
}

func (c *call) describeInstances(in *describeInstancesInput) (*describeInstancesOutput, error) {
	if err := in.checkPage(5, len(in.IDs)); err != nil {
		return nil, err
	}
	instances, err := c.instances(plain(in.IDs))
	if err != nil {
		return nil, err
	}
	if instances, err = pick(in.Filters, instanceFilters, instances); err != nil {
		return nil, err
	}
	shown, next, err := page(c, in.paging, instances, func(i instance) string { return sortKey(i.Launched, i.ID) })
	return &describeInstancesOutput{Reservations: convert(shown, c.reservation), NextToken: next}, err
}

// instances returns the caller's instances with these IDs, or all, with their volumes.
func (c *call) instances(ids []string) ([]instance, error) {
	vms, missing := withIDs(c.st.VMs(c.caller), ids, func(vm state.VM) string { return vm.ID })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", missing[0])
	}
	attached := map[string][]state.Attachment{}
	for _, v := range c.st.Volumes(c.caller) {
		if a := v.Attachment; a != nil {
			attached[a.VMID] = append(attached[a.VMID], *a)
		}
	}
	out := make([]instance, len(vms))
	for i, vm := range vms {
		out[i] = instance{VM: vm, Attachments: attached[vm.ID]}
	}
	return out, nil
}

type terminateInstancesInput struct {
	baseInput
	IDs []instanceID `query:"InstanceId,required"`
}

type terminateInstancesOutput struct {
	baseResponse
	Changes set[stateChange] `xml:"instancesSet"`
}

type stateChange struct {
	InstanceID string        `xml:"instanceId"`
	Current    instanceState `xml:"currentState"`
	Previous   instanceState `xml:"previousState"`
}

func (c *call) terminateInstances(in *terminateInstancesInput) (*terminateInstancesOutput, error) {
	before := map[string]state.VMState{}
	for _, vm := range c.st.VMs(c.caller) {
		before[vm.ID] = vm.State
	}
	after, err := c.st.TerminateVMs(c.caller, plain(in.IDs), in.DryRun)
	if err != nil {
		return nil, err
	}
	return &terminateInstancesOutput{Changes: convert(after, func(vm state.VM) stateChange {
		return stateChange{InstanceID: vm.ID, Current: describeState(vm.State), Previous: describeState(before[vm.ID])}
	})}, nil
}

type instanceUEFIDataInput struct {
	baseInput
	InstanceID instanceID `query:"InstanceId,required"`
}

type instanceUEFIDataOutput struct {
	baseResponse
	InstanceID string `xml:"instanceId"`
	Data       string `xml:"uefiData,omitempty"`
}

// instanceUEFIData returns the UEFI variable store of an instance, which is that of its image. An
// instance that does not boot by UEFI has none.
func (c *call) instanceUEFIData(in *instanceUEFIDataInput) (*instanceUEFIDataOutput, error) {
	found, missing := withIDs(c.st.VMs(c.caller), []string{string(in.InstanceID)}, func(v state.VM) string { return v.ID })
	if len(missing) > 0 {
		return nil, query.Refuse("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", missing[0])
	}
	vm := found[0]
	if !strings.HasPrefix(vm.BootMode, "uefi") {
		return nil, query.Refuse("UnsupportedOperation", "The instance %s does not support UEFI", vm.ID)
	}
	return &instanceUEFIDataOutput{InstanceID: vm.ID, Data: vm.UEFIData}, nil
}
