package oapi

import (
	"slices"
	"strconv"

	"github.com/packer-chroot/packer-plugin-chroot/loopcloud/state"
)

// volumeView is a volume. Standard volumes have no Iops, and those that were
// made blank no SnapshotId: so the real cloud was seen to answer.
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

// iopsOf is a volume's operations per second: what was asked for, or of gp2 the
// baseline of 3 for each GiB, from 100 to 10000.
func iopsOf(v state.Volume) int64 {
	switch typeView(v.Type) {
	case typeGP2:
		return min(max(3*v.SizeGiB, 100), 10000)
	case typeStandard:
		return 0
	}
	return min(v.IOPS, maxIOPS)
}

// typeView is a volume's type in the API's words: one that only EC2 has is shown
// as the one that is most like it.
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

// The types of volumes.
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

// shape is what a request says of a volume's kind.
type shape struct {
	size, iops int64
	kind       string
}

// checkShape refuses a volume of a kind, a size or a speed that there is none of.
// A size of 0 is not known yet.
func checkShape(s shape) error {
	switch {
	case !slices.Contains([]string{typeStandard, typeGP2, typeIO1}, s.kind):
		return badValue.with("the value %q of the parameter VolumeType is none of standard, gp2 and io1", s.kind)
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

type createVolumeParams struct {
	common
	SubregionName string `json:"SubregionName" need:"yes"`
	Size          *int64 `json:"Size"`
	SnapshotID    string `json:"SnapshotId"`
	VolumeType    string `json:"VolumeType"`
	Iops          *int64 `json:"Iops"`
	ClientToken   string `json:"ClientToken"`
}

func (h *Handler) createVolume(r request, p createVolumeParams) (answer, error) {
	want, err := h.wantedVolume(r.caller, p)
	if err != nil {
		return nil, err
	}
	v, err := h.state.CreateVolume(r.caller, want)
	if err != nil {
		return nil, err
	}
	return answer{"Volume": viewVolume(v)}, nil
}

// wantedVolume is the request to the state, or what is wrong with the call.
func (h *Handler) wantedVolume(caller state.Caller, p createVolumeParams) (state.VolumeRequest, error) {
	want := state.VolumeRequest{
		Zone: p.SubregionName, SnapshotID: p.SnapshotID, Type: or(p.VolumeType, typeStandard),
		SizeGiB: deref(p.Size), IOPS: deref(p.Iops), Token: p.ClientToken, IDDigits: idDigits, DryRun: p.DryRun,
	}
	size := want.SizeGiB
	if p.SnapshotID != "" {
		if err := checkID("snap", p.SnapshotID); err != nil {
			return want, err
		}
		size = max(size, h.snapshotSize(caller, p.SnapshotID))
	} else if p.Size == nil {
		return want, missing.with("the parameter Size or SnapshotId is required")
	}
	switch {
	case p.Size != nil && *p.Size < 1:
		return want, badValue.with("the value %d of the parameter Size is not from 1 to %d", *p.Size, maxSizeGiB)
	case p.Iops != nil && *p.Iops < 1:
		return want, badValue.with("the value %d of the parameter Iops is not from 1 to %d", *p.Iops, maxIOPS)
	}
	return want, checkShape(shape{size: size, iops: want.IOPS, kind: want.Type})
}

// snapshotSize is a snapshot's size in GiB; 0 if the caller cannot see it, which
// the state will say.
func (h *Handler) snapshotSize(caller state.Caller, id string) int64 {
	all := h.state.Snapshots(caller)
	i := slices.IndexFunc(all, func(s state.Snapshot) bool { return s.ID == id })
	if i < 0 {
		return 0
	}
	return all[i].SizeGiB
}

// or is s, or another if s is empty.
func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

type readVolumesParams struct {
	paging
	Filters filters `json:"Filters"`
}

func links(v volumeView) []linkedView { return v.LinkedVolumes }

var volumeFilters = withTags(func(v volumeView) []tag { return v.Tags }, map[string]property[volumeView]{
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
	"LinkVolumeDeleteOnVmDeletion": {truth, each(links, func(l linkedView) string {
		return strconv.FormatBool(l.DeleteOnVMDeletion)
	})},
})

func (h *Handler) readVolumes(r request, p readVolumesParams) (answer, error) {
	views, err := selected(mapped(h.state.Volumes(r.caller), viewVolume), p.Filters, volumeFilters)
	if err != nil {
		return nil, err
	}
	return page(p.paging, "Volumes", views)
}

type updateVolumeParams struct {
	common
	VolumeID   string `json:"VolumeId" need:"yes"`
	Size       *int64 `json:"Size"`
	VolumeType string `json:"VolumeType"`
	Iops       *int64 `json:"Iops"`
}

func (h *Handler) updateVolume(r request, p updateVolumeParams) (answer, error) {
	have, err := h.ownVolume(r.caller, p.VolumeID)
	switch {
	case err != nil:
		return nil, err
	case p.Size == nil && p.VolumeType == "" && p.Iops == nil:
		return nil, missing.with("the parameter Size, VolumeType or Iops is required")
	}
	if err := checkUpdate(have, p); err != nil {
		return nil, err
	}
	v, err := h.state.ModifyVolume(r.caller, p.VolumeID, state.VolumeChange{
		SizeGiB: deref(p.Size), Type: p.VolumeType, IOPS: deref(p.Iops), DryRun: p.DryRun,
	})
	if err != nil {
		return nil, err
	}
	return answer{"Volume": viewVolume(v)}, nil
}

// checkUpdate refuses what a volume cannot become: smaller, or of another shape
// than there is.
func checkUpdate(have state.Volume, p updateVolumeParams) error {
	to := shape{size: have.SizeGiB, kind: or(p.VolumeType, typeView(have.Type)), iops: deref(p.Iops)}
	if p.Size != nil {
		if *p.Size < have.SizeGiB {
			return badValue.with("the value %d of the parameter Size is less than the volume's %d", *p.Size, have.SizeGiB)
		}
		to.size = *p.Size
	}
	if to.kind == typeIO1 && have.Type == typeIO1 && p.Iops == nil {
		to.iops = have.IOPS
	}
	return checkShape(to)
}

// ownVolume finds a volume of the caller's that is not being deleted.
func (h *Handler) ownVolume(caller state.Caller, id string) (state.Volume, error) {
	if err := checkID("vol", id); err != nil {
		return state.Volume{}, err
	}
	all := h.state.Volumes(caller)
	i := slices.IndexFunc(all, func(v state.Volume) bool { return v.ID == id && v.State != state.VolumeDeleting })
	if i < 0 {
		return state.Volume{}, noVolume.with("the volume %s does not exist", id)
	}
	return all[i], nil
}

type linkVolumeParams struct {
	common
	DeviceName string `json:"DeviceName" need:"yes"`
	VMID       string `json:"VmId"       need:"yes"`
	VolumeID   string `json:"VolumeId"   need:"yes"`
}

func (h *Handler) linkVolume(r request, p linkVolumeParams) (answer, error) {
	if err := checkID("vol", p.VolumeID); err != nil {
		return nil, err
	}
	if err := checkID("i", p.VMID); err != nil {
		return nil, err
	}
	if !isDevice(p.DeviceName) {
		return nil, badValue.with("the value %q of the parameter DeviceName is no device", p.DeviceName)
	}
	if err := h.checkPlace(r.caller, p); err != nil {
		return nil, err
	}
	_, err := h.state.AttachVolume(r.caller, state.AttachRequest{
		VolumeID: p.VolumeID, VMID: p.VMID, Device: p.DeviceName, DryRun: p.DryRun,
	})
	return answer{}, err
}

// checkPlace refuses a device of the VM that is in use under its other name: the
// state takes /dev/sdf and /dev/xvdf for two.
func (h *Handler) checkPlace(caller state.Caller, p linkVolumeParams) error {
	for _, m := range vmMappings(p.VMID, h.state.Volumes(caller)) {
		if diskName(m.DeviceName) == diskName(p.DeviceName) {
			return conflict.with("the device %s of the VM %s is in use by the volume %s", p.DeviceName, p.VMID, m.Bsu.VolumeID)
		}
	}
	return nil
}

type unlinkVolumeParams struct {
	common
	VolumeID    string `json:"VolumeId" need:"yes"`
	ForceUnlink bool   `json:"ForceUnlink"`
}

func (h *Handler) unlinkVolume(r request, p unlinkVolumeParams) (answer, error) {
	v, err := h.ownVolume(r.caller, p.VolumeID)
	switch {
	case err != nil:
		return nil, err
	case v.Attachment == nil:
		return nil, conflict.with("the volume %s is linked to no VM", p.VolumeID)
	}
	_, err = h.state.DetachVolume(r.caller, state.DetachRequest{
		VolumeID: p.VolumeID, Force: p.ForceUnlink, DryRun: p.DryRun,
	})
	return answer{}, err
}

type deleteVolumeParams struct {
	common
	VolumeID string `json:"VolumeId" need:"yes"`
}

func (h *Handler) deleteVolume(r request, p deleteVolumeParams) (answer, error) {
	if err := checkID("vol", p.VolumeID); err != nil {
		return nil, err
	}
	return answer{}, h.state.DeleteVolume(r.caller, p.VolumeID, p.DryRun)
}
