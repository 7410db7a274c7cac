package imds

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// entries are the leaves of the metadata tree, by path.
type entries map[string]string

// at returns the text of a leaf, or the listing of a path. In a listing, a name that is not a
// leaf ends in a slash.
func (e entries) at(path string) (string, bool) {
	if text, ok := e[path]; ok {
		return text, true
	}
	prefix := path + "/"
	if path == "" {
		prefix = ""
	}
	var names []string
	for leaf := range e {
		rest, ok := strings.CutPrefix(leaf, prefix)
		if !ok {
			continue
		}
		name, _, deeper := strings.Cut(rest, "/")
		if deeper {
			name += "/"
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), "\n"), len(names) > 0
}

// entries returns the metadata of a machine.
func (h *Handler) entries(vm state.VM) entries {
	out := entries{
		"dynamic/instance-identity/document":       document(vm),
		"meta-data/ami-launch-index":               "0",
		"meta-data/hostname":                       vm.PrivateDNS(),
		"meta-data/instance-action":                "none",
		"meta-data/instance-id":                    vm.ID,
		"meta-data/instance-life-cycle":            "on-demand",
		"meta-data/instance-type":                  vm.Type,
		"meta-data/local-hostname":                 vm.PrivateDNS(),
		"meta-data/local-ipv4":                     vm.PrivateIP().String(),
		"meta-data/placement/availability-zone":    vm.Zone,
		"meta-data/placement/availability-zone-id": state.ZoneID(vm.Zone),
		"meta-data/placement/region":               vm.Region,
		"meta-data/services/domain":                state.Domain(vm.Region),
		"meta-data/services/partition":             state.Partition(vm.Region),
	}
	if vm.ImageID != "" {
		out["meta-data/ami-id"] = vm.ImageID
	}
	if vm.Outpost != "" {
		out["meta-data/outpost-arn"] = vm.Outpost
	}
	for path, text := range h.role.entries(h.st, vm) {
		out["meta-data/iam/"+path] = text
	}
	for name, device := range h.devices(vm) {
		out["meta-data/block-device-mapping/"+name] = device
	}
	return out
}

// devices returns the machine's devices by their role: ami and root are the root device, ebs1 and
// so on the others. The root is a full device name; the others have no directory.
func (h *Handler) devices(vm state.VM) map[string]string {
	out := map[string]string{"root": vm.RootDevice, "ami": strings.TrimPrefix(vm.RootDevice, "/dev/")}
	var others []string
	for _, v := range h.st.Volumes(state.Caller{Account: vm.Account, Region: vm.Region}) {
		if a := v.Attachment; a != nil && a.VMID == vm.ID && a.Device != vm.RootDevice {
			others = append(others, strings.TrimPrefix(a.Device, "/dev/"))
		}
	}
	slices.Sort(others)
	for i, device := range others {
		out[fmt.Sprintf("ebs%d", i+1)] = device
	}
	return out
}

// identity is the instance identity document, version 2017-09-30. Fields that do not apply are
// null.
type identity struct {
	AccountID               string   `json:"accountId"`
	Architecture            string   `json:"architecture"`
	AvailabilityZone        string   `json:"availabilityZone"`
	BillingProducts         []string `json:"billingProducts"`
	DevpayProductCodes      []string `json:"devpayProductCodes"`
	MarketplaceProductCodes []string `json:"marketplaceProductCodes"`
	ImageID                 *string  `json:"imageId"`
	InstanceID              string   `json:"instanceId"`
	InstanceType            string   `json:"instanceType"`
	KernelID                *string  `json:"kernelId"`
	PendingTime             string   `json:"pendingTime"`
	PrivateIP               string   `json:"privateIp"`
	RamdiskID               *string  `json:"ramdiskId"`
	Region                  string   `json:"region"`
	Version                 string   `json:"version"`
}

func document(vm state.VM) string {
	id := identity{
		AccountID: vm.Account, Architecture: vm.Architecture, AvailabilityZone: vm.Zone,
		InstanceID: vm.ID, InstanceType: vm.Type, PendingTime: vm.Launched.UTC().Format(time.RFC3339),
		PrivateIP: vm.PrivateIP().String(), Region: vm.Region, Version: "2017-09-30",
	}
	if vm.ImageID != "" {
		id.ImageID = &vm.ImageID
	}
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		panic("an identity document has no JSON: " + err.Error()) // it holds only texts
	}
	return string(text)
}
