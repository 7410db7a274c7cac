package oapi

import (
	"slices"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// volumeView is a volume in a response. A standard volume has no Iops, and a blank one no
// SnapshotId, as in recorded responses of the real cloud.
type volumeView struct {
	VolumeID      string       `json:"VolumeId"`
	State         string       `json:"State"`
	Size          int64        `json:"Size"`
	Iops          int64        `json:"Iops,omitempty"`
	VolumeType    string       `json:"VolumeType"`
	SnapshotID    string       `json:"SnapshotId,omitempty"`
	SubregionName string       `json:"SubregionName"`
	LinkedVolumes []linkedView `json:"LinkedVolumes"`
	Tags          []tag        `json:"Tags"`
	CreationDate  string       `json:"CreationDate"`
	ClientToken   string       `json:"ClientToken,omitempty"`
}

type linkedView struct {
	VolumeID           string `json:"VolumeId"`
	VMID               string `json:"VmId"`
	DeviceName         string `json:"DeviceName"`
	State              string `json:"State"`
	DeleteOnVMDeletion bool   `json:"DeleteOnVmDeletion"`
}

func viewVolume(v state.Volume) volumeView {
	view := volumeView{
		VolumeID: v.ID, State: string(v.State), Size: v.SizeGiB, Iops: iopsOf(v), VolumeType: typeView(v.Type),
		SnapshotID: v.SnapshotID, SubregionName: v.Zone, LinkedVolumes: []linkedView{},
		Tags: tagsView(v.Tags), CreationDate: wireTime(v.Created), ClientToken: v.Token,
	}
	if a := v.Attachment; a != nil && a.State != state.Detached {
		view.LinkedVolumes = append(view.LinkedVolumes,
			linkedView{v.ID, a.VMID, a.Device, string(a.State), a.DeleteOnTermination})
	}
	return view
}

// iopsOf returns the IOPS of a volume. A gp2 volume has 3 for each GiB, but at least 100 and at
// most 10000.
func iopsOf(v state.Volume) int64 {
	switch typeView(v.Type) {
	case typeGP2:
		return min(max(3*v.SizeGiB, 100), 10000)
	case typeStandard:
		return 0
	}
	return min(v.IOPS, maxIOPS)
}

// typeView returns the type of a volume. A type that only EC2 has becomes the most similar one
// of this API.
func typeView(name string) string {
	switch name {
	case "gp3":
		return typeGP2
	case "io2":
		return typeIO1
	case "", "st1", "sc1":
		return typeStandard
	}
	return name
}

// The volume types.
const (
	typeStandard = "standard"
	typeGP2      = "gp2"
	typeIO1      = "io1"
)

// The limits of a volume.
const (
	maxSizeGiB    = 14901
	maxIOPS       = 13000
	maxIOPSPerGiB = 300
)

// volumeSpec is the type, size and speed of a volume. A size of 0 is unknown.
type volumeSpec struct {
	size, iops int64
	kind       string
}

// check returns an error if no volume can have this type, size and speed.
func (s volumeSpec) check() error {
	switch {
	case !slices.Contains([]string{typeStandard, typeGP2, typeIO1}, s.kind):
		return badValue.with("the value %q of the parameter VolumeType is not standard, gp2 or io1", s.kind)
	case s.size < 0 || s.size > maxSizeGiB:
		return badValue.with("the value %d of the parameter Size is not from 1 to %d", s.size, maxSizeGiB)
	case s.kind != typeIO1 && s.iops != 0:
		return badValue.with("the parameter Iops is for io1 volumes only")
	case s.kind == typeIO1 && s.iops == 0:
		return missing.with("the parameter Iops is required for io1 volumes")
	case s.iops < 0 || s.iops > maxIOPS:
		return badValue.with("the value %d of the parameter Iops is not from 1 to %d", s.iops, maxIOPS)
	case s.size > 0 && s.iops > s.size*maxIOPSPerGiB:
		return badValue.with("the value %d of the parameter Iops is more than %d for each of %d GiB", s.iops, maxIOPSPerGiB, s.size)
	}
	return nil
}

// volumeResponse is the response of the calls that return one volume.
type volumeResponse struct {
	baseResponse
	Volume volumeView `json:"Volume"`
}

type createVolumeRequest struct {
	baseRequest
	SubregionName string `json:"SubregionName" need:"yes"`
	Size          *int64 `json:"Size"`
	SnapshotID    string `json:"SnapshotId"`
	VolumeType    string `json:"VolumeType"`
	Iops          *int64 `json:"Iops"`
	ClientToken   string `json:"ClientToken"`
}

func (c *call) createVolume(in *createVolumeRequest) (*volumeResponse, error) {
	want, err := c.volumeRequest(in)
	if err != nil {
		return nil, err
	}
	v, err := c.st.CreateVolume(c.caller, want)
	if err != nil {
		return nil, err
	}
	return &volumeResponse{Volume: viewVolume(v)}, nil
}

// volumeRequest checks a request and returns the one to the state.
func (c *call) volumeRequest(in *createVolumeRequest) (state.VolumeRequest, error) {
	want := state.VolumeRequest{
		Zone: in.SubregionName, SnapshotID: in.SnapshotID, Type: or(in.VolumeType, typeStandard),
		SizeGiB: deref(in.Size), IOPS: deref(in.Iops), Token: in.ClientToken, IDDigits: idDigits, DryRun: in.DryRun,
	}
	size := want.SizeGiB
	if in.SnapshotID != "" {
		if err := checkID("snap", in.SnapshotID); err != nil {
			return want, err
		}
		size = max(size, c.snapshotSize(in.SnapshotID))
	} else if in.Size == nil {
		return want, missing.with("the parameter Size or SnapshotId is required")
	}
	switch {
	case in.Size != nil && *in.Size < 1:
		return want, badValue.with("the value %d of the parameter Size is not from 1 to %d", *in.Size, maxSizeGiB)
	case in.Iops != nil && *in.Iops < 1:
		return want, badValue.with("the value %d of the parameter Iops is not from 1 to %d", *in.Iops, maxIOPS)
	}
	return want, volumeSpec{size: size, iops: want.IOPS, kind: want.Type}.check()
}

// snapshotSize returns the size of a snapshot in GiB. It is 0 if the caller cannot see the
// snapshot; the state then refuses the request.
func (c *call) snapshotSize(id string) int64 {
	all := c.st.Snapshots(c.caller)
	i := slices.IndexFunc(all, func(s state.Snapshot) bool { return s.ID == id })
	if i < 0 {
		return 0
	}
	return all[i].SizeGiB
}

// or returns s, or other if s is empty.
func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// deref returns the value that p points to, the zero value if p is nil.
func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

type readVolumesResponse struct {
	nextPage
	baseResponse
	Volumes []volumeView `json:"Volumes"`
}

func links(v volumeView) []linkedView { return v.LinkedVolumes }

var volumeFilters = withTags(func(v volumeView) []tag { return v.Tags }, map[string]filter[volumeView]{
	"VolumeIds":             {ids, one(func(v volumeView) string { return v.VolumeID })},
	"VolumeSizes":           {number, integer(func(v volumeView) int64 { return v.Size })},
	"VolumeStates":          {text, one(func(v volumeView) string { return v.State })},
	"VolumeTypes":           {text, one(func(v volumeView) string { return v.VolumeType })},
	"SnapshotIds":           {ids, one(func(v volumeView) string { return v.SnapshotID })},
	"SubregionNames":        {text, one(func(v volumeView) string { return v.SubregionName })},
	"CreationDates":         {date, one(func(v volumeView) string { return v.CreationDate })},
	"ClientTokens":          {text, one(func(v volumeView) string { return v.ClientToken })},
	"LinkVolumeVmIds":       {ids, each(links, func(l linkedView) string { return l.VMID })},
	"LinkVolumeDeviceNames": {text, each(links, func(l linkedView) string { return l.DeviceName })},
	"LinkVolumeLinkStates":  {text, each(links, func(l linkedView) string { return l.State })},
	"LinkVolumeDeleteOnVmDeletion": {boolean, each(links, func(l linkedView) string {
		return strconv.FormatBool(l.DeleteOnVMDeletion)
	})},
})

func (c *call) readVolumes(in *listRequest) (*readVolumesResponse, error) {
	volumes, next, err := list(in, volumeFilters, mapped(c.st.Volumes(c.caller), viewVolume))
	return &readVolumesResponse{Volumes: volumes, nextPage: next}, err
}

type updateVolumeRequest struct {
	baseRequest
	VolumeID   string `json:"VolumeId" need:"yes"`
	Size       *int64 `json:"Size"`
	VolumeType string `json:"VolumeType"`
	Iops       *int64 `json:"Iops"`
}

func (c *call) updateVolume(in *updateVolumeRequest) (*volumeResponse, error) {
	have, err := c.ownVolume(in.VolumeID)
	switch {
	case err != nil:
		return nil, err
	case in.Size == nil && in.VolumeType == "" && in.Iops == nil:
		return nil, missing.with("the parameter Size, VolumeType or Iops is required")
	}
	if err := checkUpdate(have, in); err != nil {
		return nil, err
	}
	v, err := c.st.ModifyVolume(c.caller, in.VolumeID, state.VolumeChange{
		SizeGiB: deref(in.Size), Type: in.VolumeType, IOPS: deref(in.Iops), DryRun: in.DryRun,
	})
	if err != nil {
		return nil, err
	}
	return &volumeResponse{Volume: viewVolume(v)}, nil
}

// checkUpdate returns an error if a volume cannot be changed as requested.
func checkUpdate(have state.Volume, in *updateVolumeRequest) error {
	to := volumeSpec{size: have.SizeGiB, kind: or(in.VolumeType, typeView(have.Type)), iops: deref(in.Iops)}
	if in.Size != nil {
		if *in.Size < have.SizeGiB {
			return badValue.with("the value %d of the parameter Size is less than the volume's %d", *in.Size, have.SizeGiB)
		}
		to.size = *in.Size
	}
	if to.kind == typeIO1 && have.Type == typeIO1 && in.Iops == nil {
		to.iops = have.IOPS
	}
	return to.check()
}

// ownVolume returns a volume of the caller that is not being deleted.
func (c *call) ownVolume(id string) (state.Volume, error) {
	if err := checkID("vol", id); err != nil {
		return state.Volume{}, err
	}
	all := c.st.Volumes(c.caller)
	i := slices.IndexFunc(all, func(v state.Volume) bool { return v.ID == id && v.State != state.VolumeDeleting })
	if i < 0 {
		return state.Volume{}, noVolume.with("the volume %s does not exist", id)
	}
	return all[i], nil
}

type linkVolumeRequest struct {
	baseRequest
	DeviceName string `json:"DeviceName" need:"yes"`
	VMID       string `json:"VmId"       need:"yes"`
	VolumeID   string `json:"VolumeId"   need:"yes"`
}

func (c *call) linkVolume(in *linkVolumeRequest) (*emptyResponse, error) {
	if err := checkID("vol", in.VolumeID); err != nil {
		return nil, err
	}
	if err := checkID("i", in.VMID); err != nil {
		return nil, err
	}
	if !isDevice(in.DeviceName) {
		return nil, badValue.with("the value %q of the parameter DeviceName is not a device name", in.DeviceName)
	}
	if err := c.checkLink(in); err != nil {
		return nil, err
	}
	_, err := c.st.AttachVolume(c.caller, state.AttachRequest{
		VolumeID: in.VolumeID, VMID: in.VMID, Device: in.DeviceName, DryRun: in.DryRun,
	})
	return succeeded(err)
}

// checkLink returns an error if there is no such VM, which the API checks before the volume, or if
// the VM cannot have the device.
func (c *call) checkLink(in *linkVolumeRequest) error {
	if !slices.ContainsFunc(c.st.VMs(c.caller), func(vm state.VM) bool { return vm.ID == in.VMID }) {
		return noVM.with("the VM %s does not exist", in.VMID)
	}
	return c.checkDevice(in)
}

// checkDevice returns an error if the device is in use under its other name: for the state
// /dev/sdf and /dev/xvdf are two devices.
func (c *call) checkDevice(in *linkVolumeRequest) error {
	for _, m := range vmMappings(in.VMID, c.st.Volumes(c.caller)) {
		if diskName(m.DeviceName) == diskName(in.DeviceName) {
			return conflict.with("the device %s of the VM %s is in use by the volume %s", in.DeviceName, in.VMID, m.Bsu.VolumeID)
		}
	}
	return nil
}

type unlinkVolumeRequest struct {
	baseRequest
	VolumeID    string `json:"VolumeId" need:"yes"`
	ForceUnlink bool   `json:"ForceUnlink"`
}

func (c *call) unlinkVolume(in *unlinkVolumeRequest) (*emptyResponse, error) {
	v, err := c.ownVolume(in.VolumeID)
	switch {
	case err != nil:
		return nil, err
	case v.Attachment == nil:
		return nil, conflict.with("the volume %s is linked to no VM", in.VolumeID)
	}
	_, err = c.st.DetachVolume(c.caller, state.DetachRequest{
		VolumeID: in.VolumeID, Force: in.ForceUnlink, DryRun: in.DryRun,
	})
	return succeeded(err)
}

type deleteVolumeRequest struct {
	baseRequest
	VolumeID string `json:"VolumeId" need:"yes"`
}

func (c *call) deleteVolume(in *deleteVolumeRequest) (*emptyResponse, error) {
	if err := checkID("vol", in.VolumeID); err != nil {
		return nil, err
	}
	return succeeded(c.st.DeleteVolume(c.caller, in.VolumeID, in.DryRun))
}
