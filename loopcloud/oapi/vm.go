package oapi

import (
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// vmView is a VM. The fields about networks, key pairs and groups, of which
// loopcloud knows nothing, are empty where the API always has them.
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
}

type placement struct {
	SubregionName string `json:"SubregionName"`
	Tenancy       string `json:"Tenancy"`
}

type nextBootView struct {
	SecureBoot string `json:"SecureBoot"`
}

// vmMapping is a volume that is linked to a VM.
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
	}
}

func vmMappings(vmID string, volumes []state.Volume) []vmMapping {
	out := []vmMapping{}
	for _, v := range volumes {
		if a := v.Attachment; a != nil && a.VMID == vmID && a.State != state.Detached {
			out = append(out, vmMapping{a.Device, vmBsu{v.ID, string(a.State), wireTime(a.Attached), a.DeleteOnTermination}})
		}
	}
	return out
}

type readVMsParams struct {
	paging
	Filters filters `json:"Filters"`
}

func vmLinks(v vmView) []vmMapping { return v.BlockDeviceMappings }

var vmFilters = withTags(func(v vmView) []tag { return v.Tags }, map[string]property[vmView]{
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
	"BlockDeviceMappingDeleteOnVmDeletion": {truth, each(vmLinks, func(m vmMapping) string {
		return strconv.FormatBool(m.Bsu.DeleteOnVMDeletion)
	})},
	"BlockDeviceMappingStates": {text, each(vmLinks, func(m vmMapping) string { return m.Bsu.State })},
})

func (h *Handler) readVMs(r request, p readVMsParams) (answer, error) {
	volumes := h.state.Volumes(r.caller)
	views := mapped(h.state.VMs(r.caller), func(vm state.VM) vmView { return viewVM(vm, volumes) })
	views, err := selected(views, p.Filters, vmFilters)
	if err != nil {
		return nil, err
	}
	return page(p.paging, "Vms", views)
}
