package oapi

import (
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// vmView is a VM in a response. loopcloud has no networks, key pairs and groups: those of their
// fields that the API always has are empty.
type vmView struct {
	VMID                string       `json:"VmId"`
	State               string       `json:"State"`
	StateReason         string       `json:"StateReason"`
	VMType              string       `json:"VmType"`
	ImageID             string       `json:"ImageId"`
	Architecture        string       `json:"Architecture"`
	BootMode            string       `json:"BootMode"`
	CreationDate        string       `json:"CreationDate"`
	Hypervisor          string       `json:"Hypervisor"`
	OSFamily            string       `json:"OsFamily"`
	Performance         string       `json:"Performance"`
	Placement           placement    `json:"Placement"`
	RootDeviceName      string       `json:"RootDeviceName"`
	RootDeviceType      string       `json:"RootDeviceType"`
	BlockDeviceMappings []vmMapping  `json:"BlockDeviceMappings"`
	ProductCodes        []string     `json:"ProductCodes"`
	Tags                []tag        `json:"Tags"`
	DeletionProtection  bool         `json:"DeletionProtection"`
	Nested              bool         `json:"NestedVirtualization"`
	TPMEnabled          bool         `json:"TpmEnabled"`
	LaunchNumber        int64        `json:"LaunchNumber"`
	Nics                []struct{}   `json:"Nics"`
	SecurityGroups      []struct{}   `json:"SecurityGroups"`
	PrivateIP           string       `json:"PrivateIp"`
	ReservationID       string       `json:"ReservationId"`
	UserData            string       `json:"UserData"`
	ShutdownBehavior    string       `json:"VmInitiatedShutdownBehavior"`
	NextBoot            nextBootView `json:"ActionsOnNextBoot"`
	BSUOptimized        bool         `json:"BsuOptimized"`
	SourceDestChecked   bool         `json:"IsSourceDestChecked"`
	KeypairName         string       `json:"KeypairName"`
	Shutdown            shutdownView `json:"ShutdownBehaviorConfiguration"`
}

// shutdownView is the actions after a VM is shut down by its guest, or by a failure of its host.
type shutdownView struct {
	GuestAction string `json:"GuestAction"`
	HostAction  string `json:"HostAction"`
}

type placement struct {
	SubregionName string `json:"SubregionName"`
	Tenancy       string `json:"Tenancy"`
}

type nextBootView struct {
	SecureBoot string `json:"SecureBoot"`
}

// vmMapping is a volume linked to a VM.
type vmMapping struct {
	DeviceName string `json:"DeviceName"`
	Bsu        vmBsu  `json:"Bsu"`
}

type vmBsu struct {
	VolumeID           string `json:"VolumeId"`
	State              string `json:"State"`
	LinkDate           string `json:"LinkDate"`
	DeleteOnVMDeletion bool   `json:"DeleteOnVmDeletion"`
}

func viewVM(vm state.VM, volumes []state.Volume) vmView {
	return vmView{
		VMID: vm.ID, State: string(vm.State), VMType: vm.Type, ImageID: vm.ImageID,
		Architecture: vm.Architecture, BootMode: "legacy", CreationDate: wireTime(vm.Launched),
		Hypervisor: "xen", OSFamily: "linux", Performance: "high",
		Placement:      placement{vm.Zone, "default"},
		RootDeviceName: vm.RootDevice, RootDeviceType: "bsu",
		BlockDeviceMappings: vmMappings(vm.ID, volumes),
		ProductCodes:        []string{defaultProductCode}, Tags: tagsView(vm.Tags),
		Nics: []struct{}{}, SecurityGroups: []struct{}{},
		ShutdownBehavior: "stop", NextBoot: nextBootView{"none"},
		SourceDestChecked: true, Shutdown: shutdownView{GuestAction: "stop", HostAction: "restart"},
	}
}

// vmMappings returns the volumes linked to a VM.
func vmMappings(vmID string, volumes []state.Volume) []vmMapping {
	out := []vmMapping{}
	for _, v := range volumes {
		if a := v.Attachment; a != nil && a.VMID == vmID && a.State != state.Detached {
			out = append(out, vmMapping{a.Device, vmBsu{v.ID, string(a.State), wireTime(a.Attached), a.DeleteOnTermination}})
		}
	}
	return out
}

type readVMsResponse struct {
	nextPage
	baseResponse
	VMs []vmView `json:"Vms"`
}

func vmLinks(v vmView) []vmMapping { return v.BlockDeviceMappings }

var vmFilters = withTags(func(v vmView) []tag { return v.Tags }, map[string]filter[vmView]{
	"VmIds":                         {ids, one(func(v vmView) string { return v.VMID })},
	"VmStateNames":                  {text, one(func(v vmView) string { return v.State })},
	"VmTypes":                       {text, one(func(v vmView) string { return v.VMType })},
	"ImageIds":                      {ids, one(func(v vmView) string { return v.ImageID })},
	"Architectures":                 {text, one(func(v vmView) string { return v.Architecture })},
	"SubregionNames":                {text, one(func(v vmView) string { return v.Placement.SubregionName })},
	"Tenancies":                     {text, one(func(v vmView) string { return v.Placement.Tenancy })},
	"CreationDates":                 {date, one(func(v vmView) string { return v.CreationDate })},
	"RootDeviceNames":               {text, one(func(v vmView) string { return v.RootDeviceName })},
	"RootDeviceTypes":               {text, one(func(v vmView) string { return v.RootDeviceType })},
	"ProductCodes":                  {text, func(v vmView) []string { return v.ProductCodes }},
	"BlockDeviceMappingVolumeIds":   {ids, each(vmLinks, func(m vmMapping) string { return m.Bsu.VolumeID })},
	"BlockDeviceMappingDeviceNames": {text, each(vmLinks, func(m vmMapping) string { return m.DeviceName })},
	"BlockDeviceMappingDeleteOnVmDeletion": {boolean, each(vmLinks, func(m vmMapping) string {
		return strconv.FormatBool(m.Bsu.DeleteOnVMDeletion)
	})},
	"BlockDeviceMappingStates": {text, each(vmLinks, func(m vmMapping) string { return m.Bsu.State })},
})

func (c *call) readVMs(in *listRequest) (*readVMsResponse, error) {
	volumes := c.st.Volumes(c.caller)
	views := mapped(c.st.VMs(c.caller), func(vm state.VM) vmView { return viewVM(vm, volumes) })
	vms, next, err := list(in, vmFilters, views)
	return &readVMsResponse{VMs: vms, nextPage: next}, err
}
